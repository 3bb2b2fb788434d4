"""The native engine in long, interrupted, forked and crowded processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hetc import runtime
from hetc.driver import CompileOptions, compile_bundle
from hetc.errors import RuntimeFault
from hetc.runtime import Bundle
from hetc.runtime.native import NativeOptions, native_executors
from hetc.runtime.native.engine import Engine
from tests.driver.conftest import Subjects
from tests.driver.models import build, save

PROMPT = [3, 4, 5]
LONG = 4096


def loaded(path: Path, threads: int = 2) -> Bundle:
    offered = {"native": native_executors(NativeOptions(threads))}
    return runtime.load(path, executors=offered, executor="native")


def answer(bundle: Bundle, count: int = 8) -> tuple[int, ...]:
    return bundle.generate(PROMPT, max_new_tokens=count, ignore_eos=True).token_ids


@pytest.fixture(scope="module")
def long_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for LONG tokens."""
    folder = tmp_path_factory.mktemp("long")
    source = save(build("llama", max_position_embeddings=LONG), folder / "model")
    return compile_bundle(source, folder / "bundle", CompileOptions()).path


@pytest.fixture
def bundle(subjects: Subjects) -> Iterator[Bundle]:
    with loaded(subjects("llama").path) as found:
        yield found


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def count_after_generations(path: Path) -> None:
    """Raises where a thousand generations leave files, threads, or a kilobyte each."""
    with loaded(path) as bundle:

        def generate(times: int) -> tuple[int, int, int]:
            for _ in range(times):
                answer(bundle, 3)
            files = len(list(Path("/proc/self/fd").iterdir()))
            return files, threading.active_count(), resident_bytes()

        files, threads, before = generate(100)
        assert generate(900)[:2] == (files, threads)
        # A kilobyte for each would be seen.
        assert resident_bytes() - before < 900 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_a_thousand_generations_leave_nothing(subjects: Subjects) -> None:
    # In a process of its own: what other tests left is given back at any time.
    process = multiprocessing.get_context("spawn").Process(
        target=count_after_generations, args=(subjects("llama").path,)
    )
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_share_the_weights(bundle: Bundle) -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    weights = [line for line in maps if line.endswith(str(bundle.files.path("native/weights.bin")))]
    assert weights
    assert {line.split()[1] for line in weights} == {"r--s"}


def interrupt_in(monkeypatch: pytest.MonkeyPatch, half: str) -> list[int]:
    """Interrupt the process while the second call of a half runs; gives the calls of it."""
    run, calls = Engine.run, [0]

    def counted(engine: Engine, which: Any, *arguments: Any) -> None:
        if which == half:
            calls[0] += 1
            if calls[0] == 2:
                threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
        run(engine, which, *arguments)

    monkeypatch.setattr(Engine, "run", counted)
    return calls


def prefill(bundle: Bundle) -> object:
    return bundle.prefill([5] * (LONG - 1))


def generate(bundle: Bundle) -> object:
    return answer(bundle, LONG - len(PROMPT))


@pytest.mark.parametrize(
    ("half", "work", "all_calls"),
    [("prefill", prefill, LONG // 128), ("decode", generate, LONG - len(PROMPT) - 1)],
)
def test_an_interrupt_ends_it_early(
    half: str,
    work: Callable[[Bundle], object],
    all_calls: int,
    long_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with loaded(long_path) as bundle:
        expected = answer(bundle)
        with monkeypatch.context() as patch:
            calls = interrupt_in(patch, half)
            with pytest.raises(KeyboardInterrupt):
                work(bundle)
        assert 2 <= calls[0] < all_calls
        assert answer(bundle) == expected


def test_two_threads_use_one_bundle(bundle: Bundle) -> None:
    expected, found = answer(bundle, 20), []
    callers = [threading.Thread(target=lambda: found.append(answer(bundle, 20))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [expected] * 2


def test_a_forked_child_generates(bundle: Bundle) -> None:
    expected = answer(bundle)
    child = os.fork()
    if child == 0:
        # Whatever happens, this must not go on as a second test run.
        try:
            signal.alarm(60)
            os._exit(0 if answer(bundle) == expected else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert answer(bundle) == expected


def _answer_of(path: Path) -> tuple[int, ...]:
    with loaded(path) as bundle:
        return answer(bundle)


def test_a_spawned_child_generates(subjects: Subjects, bundle: Bundle) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_answer_of, (subjects("llama").path,)) == answer(bundle)


def test_closing_twice_and_using_it_afterwards(subjects: Subjects) -> None:
    bundle = loaded(subjects("llama").path)
    _, state = bundle.prefill(PROMPT)
    halves = bundle._require_halves()
    for _ in range(2):
        bundle.close()
        halves.close()
    with pytest.raises(RuntimeFault, match="HETC-R004"):
        bundle.decode([1], state)
    with pytest.raises(RuntimeFault, match="HETC-R004"):
        halves.prefill(halves.as_tokens(PROMPT))


def test_progress_on_a_crowded_machine(bundle: Bundle) -> None:
    """More busy processes than cores, and more threads than cores: waiting threads give way."""
    expected = answer(bundle, 30)
    busy = [sys.executable, "-c", "while True: pass"]
    hogs = [subprocess.Popen(busy) for _ in range((os.cpu_count() or 1) + 1)]
    try:
        assert answer(bundle, 30) == expected
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
