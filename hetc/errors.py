"""Every error hetc raises on purpose: what, where, expected, found, what to do.

A code is stable: `HETC-` + the letter of the room + three digits. The letters: U usage, I input
(frontends), X the IR, C canonicalize, S state synthesis, P partition, T targets, E emitting
(backends), D placing and routing, L plans (files, lint, simulation, execution), B bundle,
R runtime, V verification, Z an error of hetc itself.
`docs/errors.md` lists every code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why a check said no: a stable code, one sentence, and the op or value that it is about."""

    code: str
    text: str
    at: str = ""

    def __str__(self) -> str:
        place = f" at {self.at}" if self.at else ""
        return f"{self.code}{place}: {self.text}"


class HetcError(Exception):
    """Base of all errors that a user can act on.

    `what` is one lower-case sentence; `at` names the file, op, layer or field; `expected` and
    `found` are values; `do` is the remedy. `exit_code` is what the command line returns.
    """

    exit_code = 2

    def __init__(
        self,
        code: str,
        what: str,
        *,
        at: str = "",
        expected: object = "",
        found: object = "",
        do: str = "",
    ) -> None:
        self.code = code
        self.what = what
        self.at = at
        self.expected = str(expected)
        self.found = str(found)
        self.do = do
        super().__init__(self.render())

    def render(self) -> str:
        """The error as the user sees it, one fact a line."""
        lines = [f"error[{self.code}]: {self.what}"]
        if self.at:
            lines.append(f"  at {self.at}")
        for label, text in (("expected", self.expected), ("found", self.found), ("do", self.do)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, str]:
        """The same facts as a flat object, for `--json`."""
        facts = {"code": self.code, "what": self.what, "at": self.at}
        facts |= {"expected": self.expected, "found": self.found, "do": self.do}
        return {key: text for key, text in facts.items() if text}


class UsageError(HetcError):
    """The command line or a function was called with something that it does not take."""


class InputError(HetcError):
    """A model, tokenizer or option file cannot be used."""


class IRError(HetcError):
    """A graph breaks a rule of the IR (an op's signature, a type, a stage's invariant)."""


class StateError(HetcError):
    """Decode cannot be derived from this model."""


class PartitionError(HetcError):
    """No assignment of ops to devices satisfies the capacities and pins."""


class TargetError(HetcError):
    """A target is unknown or its file is not valid."""


class BackendError(HetcError):
    """A backend cannot emit or run a half."""


class PlanError(HetcError):
    """A half cannot be planned for a dataflow fabric (it does not fit, place or route), or its plan
    cannot be executed as it is written."""


class BundleError(HetcError):
    """A bundle is damaged, foreign, of another version, or cannot be written."""


class RuntimeFault(HetcError):
    """A loaded bundle cannot do what was asked of it."""


class CheckFailed(HetcError):
    """A verification ran and its answer is no."""

    exit_code = 1


class InternalError(HetcError):
    """hetc itself is wrong: a pass failed or made a graph that breaks the rules of the IR."""

    exit_code = 3


class MissingDependency(HetcError):
    """An optional package is needed; the error names the extra that brings it."""

    def __init__(self, package: str, extra: str, *, needed_for: str) -> None:
        super().__init__(
            "HETC-U001",
            f"{needed_for} needs the package {package}",
            found="it is not installed",
            do=f"pip install 'hetc[{extra}]'",
        )
