"""The rounds: in each, every contender starts anew and does the same work in turn.

A round goes work by work, not contender by contender: what else the machine does changes from
minute to minute, and meets all of them in the same work alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.client import Client, Failed
from benchmarks.peers.contenders import Contender
from benchmarks.peers.others import look, others_share, wait_until_quiet
from hetc.targets.cpu import read_cpu
from hetc.targets.measure import measure

FIRST_TOKENS = 32
# "The capital of France is"
QUESTION = [504, 3575, 282, 4649, 314]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """`tokens` of prompt to prefill, or of context to decode `new` steps after."""

    phase: str
    tokens: int
    batch: int = 1
    new: int = 0

    @property
    def title(self) -> str:
        several = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.phase} {self.tokens}{several}"

    @property
    def counted(self) -> int:
        """The tokens that the seconds are divided into."""
        return self.batch * (self.tokens if self.phase == "prefill" else self.new)


@dataclass
class Row:
    """What was found of one contender: a list has one figure a round.

    `first` is seconds from nothing loaded to the first token, `others` the share of the machine
    that other programs took during each work, `reasons` what failed, by work.
    """

    first: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    rates: dict[str, list[float]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """Rows by contender; read bandwidth (B/s) and load average of each round."""

    rows: dict[str, Row] = field(default_factory=dict)
    bandwidth: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """Threads of everyone, the seconds that one request may take, and the tokens of the answer.

    `patience`: seconds that each piece of work may wait for a quiet machine.
    """

    threads: int
    seconds: float
    answer: int = 24
    patience: float = 0.0


def measure_round(
    number: int,
    contenders: dict[Contender, Path],
    works: list[Work],
    limits: Limits,
    logs: Path,
    found: Found,
    say: Say,
) -> None:
    """One round; the figures are added to `found`."""
    found.bandwidth.append(measure(read_cpu()).dram_bandwidth)
    clients: dict[str, Client] = {}
    try:
        for contender, model in contenders.items():
            row = found.rows.setdefault(contender.name, Row())
            client = _start(contender, logs, limits, row)
            if client is not None:
                clients[contender.name] = client
                _load(client, model, number, works, limits, row)
                say(f"round {number}: {contender.name} is loaded")
        for work in works:
            for name, client in clients.items():
                _do(client, work, number, limits, found.rows[name])
            say(f"round {number}: {work.title}")
    finally:
        for client in clients.values():
            client.close()
    found.load.append(os.getloadavg()[0])


def _start(contender: Contender, logs: Path, limits: Limits, row: Row) -> Client | None:
    log = logs / f"{contender.name}.log"
    try:
        return Client(contender.python, contender.engine, contender.options, log, limits.threads)
    except Failed as failed:
        row.reasons["load"] = str(failed)
        return None


def _load(
    client: Client, model: Path, number: int, works: list[Work], limits: Limits, row: Row
) -> None:
    room = {
        "batch": max(work.batch for work in works),
        "context": max(work.tokens + work.new for work in works) + 16,
    }
    try:
        loaded = client.ask(
            "load", limits.seconds, model=str(model.resolve()), threads=limits.threads, **room
        )
        first = client.ask("first", limits.seconds, tokens=FIRST_TOKENS, seed=number)
        row.first.append(loaded["seconds"] + first["seconds"])
        row.resident.append(client.ask("memory", limits.seconds)["resident_bytes"])
        answer = client.ask("answer", limits.seconds, prompt=QUESTION, new=limits.answer)
        row.answer = answer["tokens"]
    except Failed as failed:
        row.reasons["load"] = str(failed)


def _do(client: Client, work: Work, number: int, limits: Limits, row: Row) -> None:
    if "load" in row.reasons:
        return
    request = {"batch": work.batch, "seed": number}
    if work.phase == "prefill":
        request |= {"tokens": work.tokens}
    else:
        request |= {"context": work.tokens, "new": work.new}
    wait_until_quiet(limits.patience)
    before = look(client.pid)
    try:
        seconds = client.ask(work.phase, limits.seconds, **request)["seconds"]
        row.rates.setdefault(work.title, []).append(work.counted / seconds)
        row.others.append(others_share(before, look(client.pid)))
    except Failed as failed:
        row.reasons[work.title] = str(failed)
