"""The other end of a worker: starts it, asks it, and turns every way to fail into a reason."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Failed(Exception):
    """A peer that is missing, refuses, dies or takes too long; the message is one line."""


def environment(threads: int) -> dict[str, str]:
    """What every process of a peer runs with: the same threads everywhere, and no network."""
    words = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return os.environ | words


class Client:
    """One worker process. What it prints beside the protocol goes to `log`."""

    def __init__(
        self, python: Path, engine: str, options: dict[str, Any], log: Path, threads: int
    ) -> None:
        self._log = log
        command: list[str | Path] = [
            python,
            "-m",
            "benchmarks.peers.worker",
            engine,
            json.dumps(options),
        ]
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("w", encoding="utf-8") as errors:
                self._process: subprocess.Popen[str] = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    cwd=ROOT,
                    env=environment(threads),
                )
        except OSError as error:
            raise Failed(f"its interpreter does not start: {error.strerror}") from error

    def ask(self, do: str, seconds: float, **request: Any) -> dict[str, Any]:
        """The answer to one request; raises Failed for an error, a death, or after `seconds`."""
        alarm = threading.Timer(seconds, self._process.kill)
        alarm.start()
        try:
            line = self._exchange({"do": do, **request})
        finally:
            late = not alarm.is_alive()
            alarm.cancel()
        if not line:
            raise Failed(f"stopped after {seconds:g} s" if late else self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise Failed(one_line(reply["error"]))
        return reply

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the worker, whatever it does."""
        if self._process.poll() is None:
            try:
                self._exchange({"do": "quit"})
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _exchange(self, request: dict[str, Any]) -> str:
        """The line that answers; empty where the process is gone."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()

    def _last_words(self) -> str:
        code = self._process.wait()
        said = last_line(self._log.read_text(encoding="utf-8", errors="replace"))
        return f"died with status {code}" + (f": {said}" if said else "")


def run(command: list[str | Path], log: Path, threads: int) -> None:
    """Run one command to its end; raises Failed with the last line that it printed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(threads),
            )
    except OSError as error:
        raise Failed(f"its interpreter does not start: {error.strerror}") from error
    if done.returncode:
        said = last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise Failed(f"conversion ended with status {done.returncode}: {said}")


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""


def one_line(text: str) -> str:
    """A reason as a cell of a table can hold it."""
    words = " ".join(text.split()).replace(f"{ROOT}/", "").replace("|", "/")
    return words if len(words) <= 160 else words[:159] + "…"
