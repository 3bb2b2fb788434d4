"""The bench of the peers, without a peer: the worker protocol, and failures that become rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import others, tables
from benchmarks.peers.client import Client, Failed
from benchmarks.peers.contenders import Contender, peers
from benchmarks.peers.engine import prompts
from benchmarks.peers.others import Moment, look, others_share
from benchmarks.peers.rounds import Found, Limits, Row, Work, measure_round

FAKES = "tests.benchmarks.fake_engines:"
PYTHON = Path(sys.executable)
WORKS = [Work("prefill", 128), Work("decode", 64, 1, 8), Work("decode", 64, 4, 8)]


def contender(name: str, bits: int = 16, python: Path = PYTHON, format: str = "") -> Contender:
    return Contender(name, bits, python, FAKES + name, format, state_bytes=10)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(PYTHON, FAKES + "Counting", {}, tmp_path / "log", threads=2)
    yield client
    client.close()


def loaded(client: Client) -> Client:
    client.ask("load", 60, model="counting", threads=2, batch=4, context=128)
    return client


def test_a_worker_answers_every_verb(client: Client, tmp_path: Path) -> None:
    loaded(client)
    assert client.ask("prefill", 60, tokens=128, batch=1, seed=0) == {"seconds": 0.5}
    # The first token and the steps that are not timed are no part of a decode.
    assert client.ask("decode", 60, context=64, new=8, batch=2, seed=0) == {"seconds": 8.0}
    assert client.ask("answer", 60, prompt=[4, 8], new=3) == {"tokens": [9, 10, 11]}
    assert client.ask("first", 60, tokens=32, seed=0).keys() == {"seconds"}
    assert client.ask("memory", 60)["resident_bytes"] > 1 << 20
    assert client.ask("logits", 60, tokens=[4, 9], to=str(tmp_path / "logits.npy")) == {}
    assert np.load(tmp_path / "logits.npy").argmax(-1).tolist() == [5, 10]
    client.close()
    assert "from C" in (tmp_path / "log").read_text()


def test_an_error_is_one_line_and_the_worker_goes_on(client: Client) -> None:
    with pytest.raises(Failed, match=r"^FileNotFoundError: other is no / model$"):
        client.ask("load", 60, model="other", threads=2, batch=1, context=1)
    loaded(client)


def test_prompts_are_fixed_and_differ_by_seed() -> None:
    assert prompts(5, 2, 1) == prompts(5, 2, 1)
    assert prompts(5, 2, 1) != prompts(5, 2, 2)
    first, second = prompts(5, 2, 1)
    assert len(first) == len(second) == 5
    assert first != second


def found_of(
    contenders: list[Contender], tmp_path: Path, seconds: float = 60, rounds: int = 1
) -> Found:
    found = Found()
    models = dict.fromkeys(contenders, Path("counting"))
    limits = Limits(threads=2, seconds=seconds, answer=3)
    for number in range(rounds):
        measure_round(number, models, WORKS, limits, tmp_path, found, lambda text: None)
    return found


def test_rounds_give_a_figure_each(tmp_path: Path) -> None:
    found = found_of([contender("Counting")], tmp_path, rounds=2)
    row = found.rows["Counting"]
    assert row.rates == {
        "prefill 128": [256.0] * 2,
        "decode 64": [2.0] * 2,
        "decode 64, batch 4": [2.0] * 2,
    }
    assert row.reasons == {}
    assert len(row.others) == 6
    assert all(0 <= share <= 1 for share in row.others)
    assert len(row.first) == len(row.resident) == len(found.bandwidth) == len(found.load) == 2


def test_every_failure_is_a_row_with_its_reason(tmp_path: Path) -> None:
    fine, absent = contender("Counting"), contender("Absent")
    no_batches, dying, hanging = map(contender, ("NoBatches", "Dying", "Hanging"))
    nowhere = Contender("Nowhere", 4, tmp_path / "python", FAKES + "Counting", "", 10)
    missing = Contender("Missing", 8, PYTHON, "no_such_peer:Peer", "", 10)
    everyone = [fine, absent, no_batches, dying, nowhere, missing]
    found = found_of(everyone, tmp_path)
    found.rows |= found_of([hanging], tmp_path, seconds=3).rows
    reasons = {name: row.reasons for name, row in found.rows.items()}
    assert reasons["Counting"] == {}
    assert reasons["NoBatches"] == {"decode 64, batch 4": "ValueError: one sequence at a time"}
    assert reasons["Dying"] == {"load": "died with status 7: terminate called"}
    assert reasons["Hanging"] == {"load": "stopped after 3 s"}
    assert reasons["Nowhere"]["load"].startswith("its interpreter does not start: No such file")
    assert reasons["Missing"]["load"].startswith("ModuleNotFoundError: No module named")
    assert "Absent" in reasons["Absent"]["load"]
    shown = tables.reasons(found)
    for name in ("NoBatches", "Dying", "Hanging", "Nowhere", "Missing", "Absent"):
        assert f"| {name} |" in shown
    assert tables.rates(found, everyone, WORKS).count("\n| Dying | – | – | – |") == 1


def test_the_tables_hold_medians_and_their_ratios(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(bytes(1000))
    ours, theirs = contender("Ours", format="hetc:bf16"), contender("Theirs", bits=8)
    found = Found(bandwidth=[1e5, 2e5, 9e5], load=[1.0])
    for name, speed in ("Ours", 3.0), ("Theirs", 2.0):
        rates = {work.title: [speed, 100 * speed, 10 * speed] for work in WORKS[:2]}
        found.rows[name] = Row(
            [0.5], [2_000_000], rates, [0.125], [1, 2, 3 if name == "Ours" else 4]
        )
    both = [ours, theirs]
    assert "| Ours | 30.0 | 30.0 | – | 0.50 | 2.00 | 3/3 | 12.5 |" in tables.rates(
        found, both, WORKS
    )
    assert "| Theirs | 20.0 | 20.0 | – | 0.50 | 2.00 | 2/3 | 12.5 |" in tables.rates(
        found, both, WORKS
    )
    assert "| Theirs | 1.50 | 1.50 | – |" in tables.ratios(found, ours, both, WORKS)
    # 30 steps a second of 1,000 bytes and 10 for each of 68 tokens, of 200 kB/s.
    models = dict.fromkeys(both, model)
    assert "| Ours | 0 | 0.25 |" in tables.utilization(found, models, WORKS)
    assert tables.reasons(found) == "Everything ran."


def test_every_peer_has_its_modules() -> None:
    root = Path(__file__).parents[2]
    every = list(peers(PYTHON))
    assert len({item.name for item in every}) == len(every)
    for item in every:
        module = item.engine.partition(":")[0].replace(".", "/")
        assert (root / f"{module}.py").is_file()
        converter = item.format.partition(":")[0]
        assert not converter or (root / f"benchmarks/peers/converters/{converter}.py").is_file()


def test_what_others_take_leaves_out_the_process_itself() -> None:
    cores = os.cpu_count() or 1
    before, after = Moment(0, 100, 10), Moment(2, 100 + 1.5 * cores, 10 + 0.5 * cores)
    assert others_share(before, after) == 0.5
    assert others_share(before, Moment(2, 101, 12)) == 0
    assert look(os.getpid()).everyone >= look(os.getpid()).process > 0


def test_waiting_ends_at_the_first_quiet_look(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.05])
    monkeypatch.setattr(others, "others_share", lambda before, after: next(shares))
    monkeypatch.setattr(others, "_LOOK", 0)
    others.wait_until_quiet(60)
    assert list(shares) == []
    others.wait_until_quiet(0)
