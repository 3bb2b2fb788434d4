"""The hand-off: prove that a state is whole under the contract, then pass it on, once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from hetc.bundle.contract import Contract, Dim, Phase, StateSpec
from hetc.errors import RuntimeFault
from hetc.runtime.state import State


@dataclass(frozen=True)
class HandoffRecord:
    """What one hand-off moved: bytes, seconds it took, and the element types (`f32`)."""

    bytes: int
    seconds: float
    dtype: str


def hand_off(
    state: State,
    contract: Contract,
    contract_sha256: str,
    *,
    digests: Mapping[str, str] | None = None,
) -> tuple[State, HandoffRecord]:
    """Pass the prefill half's `state` to decode; the given state is spent afterwards.

    `digests` (from `State.digests` on the producer's side) are compared where given. Raises
    RuntimeFault, and leaves the state as it was, where `check_state` finds a fault (HETC-R010 to
    R015, R017) or where a digest (HETC-R016) or a conversion (HETC-R019) does not fit.
    """
    start = time.perf_counter()
    check_state(state, contract, contract_sha256, owner="prefill")
    for spec in contract.states:
        if spec.conversion != "none":
            raise RuntimeFault(
                "HETC-R019",
                "this hand-off needs a conversion that this runtime does not know",
                at=spec.name,
                expected="none",
                found=spec.conversion,
                do="update hetc, or compile the bundle again with this version",
            )
    if digests is not None:
        _check_digests(state, digests)
    moved = sum(state.nbytes(name) for name in contract.state_names)
    dtype = ",".join(sorted({spec.dtype for spec in contract.states}))
    passed = State(contract_sha256, state.past, state.take(), owner="decode")
    return passed, HandoffRecord(moved, time.perf_counter() - start, dtype)


def check_state(state: State, contract: Contract, contract_sha256: str, *, owner: Phase) -> int:
    """Refuse a state that is spent, foreign or not whole; returns its batch size.

    Raises RuntimeFault: HETC-R010 spent, R011 another contract, R012 tensors missing or unknown,
    R013 dtype, R014 shape, R015 past length, R017 wrong owner.
    """
    tensors = state.tensors
    if state.contract_sha256 != contract_sha256:
        raise RuntimeFault(
            "HETC-R011",
            "the state was made under another hand-off contract",
            expected=contract_sha256,
            found=state.contract_sha256,
            do="prefill and decode with halves of the same bundle",
        )
    if state.owner != owner:
        raise RuntimeFault(
            "HETC-R017",
            "the state belongs to the other half",
            expected=f"a state owned by {owner}",
            found=f"owned by {state.owner}",
            do="pass the prefill half's state through the hand-off once, then decode with it",
        )
    missing = [name for name in contract.state_names if name not in tensors]
    unknown = sorted(tensors.keys() - set(contract.state_names))
    if missing or unknown:
        raise RuntimeFault(
            "HETC-R012",
            "the state is not whole",
            expected=f"the {len(contract.states)} tensors of the contract",
            found="; ".join(
                f"{label} {', '.join(names[:4])}{' and more' if len(names) > 4 else ''}"
                for label, names in (("missing", missing), ("unknown", unknown))
                if names
            ),
            do="prefill again",
        )
    if not contract.min_context <= state.past <= contract.max_context:
        raise RuntimeFault(
            "HETC-R015",
            "the state's past length is outside of the contract",
            expected=f"{contract.min_context} to {contract.max_context} tokens",
            found=state.past,
        )
    batch: int | None = None
    for spec in contract.states:
        batch = _check_tensor(spec, state, batch)
    return 1 if batch is None else batch


def _check_tensor(spec: StateSpec, state: State, batch: int | None) -> int | None:
    if state.dtype(spec.name) != spec.dtype:
        raise RuntimeFault(
            "HETC-R013",
            "a state tensor has another element type than the contract says",
            at=spec.name,
            expected=spec.dtype,
            found=state.dtype(spec.name),
        )
    found = state.shape(spec.name)
    if batch is None and len(found) == len(spec.shape) and "B" in spec.shape:
        batch = found[spec.shape.index("B")]
    if len(found) == len(spec.shape):
        values = {"P": state.past} | ({} if batch is None else {"B": batch})
        expected = tuple(size_of(dim, values, at=spec.name) for dim in spec.shape)
        if found == expected:
            return batch
        off = [axis for axis, size in enumerate(expected) if size != found[axis]]
        if off == [spec.append_axis]:
            raise RuntimeFault(
                "HETC-R015",
                "a state tensor holds another number of positions than the state says",
                at=f"{spec.name}, axis {off[0]}",
                expected=f"{expected[off[0]]} rows after {state.past} tokens",
                found=found[off[0]],
            )
    text = ", ".join(str(dim) for dim in spec.shape)
    raise RuntimeFault(
        "HETC-R014",
        "a state tensor has another shape than the contract says",
        at=spec.name,
        expected=f"[{text}] with P = {state.past}"
        + (f", B = {batch}" if batch is not None else ""),
        found=list(found),
    )


def _check_digests(state: State, digests: Mapping[str, str]) -> None:
    for name, found in state.digests().items():
        if digests.get(name) != found:
            raise RuntimeFault(
                "HETC-R016",
                "a state tensor changed on its way",
                at=name,
                expected=digests.get(name, "a digest of this tensor"),
                found=found,
                do="prefill again",
            )


def size_of(dim: Dim, values: Mapping[str, int], *, at: str) -> int:
    """A dim of the contract as a number: an int, a symbol, `W<n>` = min(P, n), sums of products.

    Raises RuntimeFault HETC-R014 for a symbol without a value.
    """
    if isinstance(dim, int):
        return dim
    if dim in values:
        return values[dim]
    total = 0
    for term in dim.replace(" ", "").replace("-", "+-").removeprefix("+").split("+"):
        product = -1 if term.startswith("-") else 1
        for factor in term.removeprefix("-").split("*"):
            product *= _factor(factor, values, dim, at)
        total += product
    return total


def _factor(text: str, values: Mapping[str, int], dim: str, at: str) -> int:
    if text.isdecimal():
        return int(text)
    if text in values:
        return values[text]
    # `W<n>` counts the rows of a window of n positions before the step.
    if text.startswith("W") and text[1:].isdecimal() and "P" in values:
        return min(values["P"], int(text[1:]))
    raise RuntimeFault(
        "HETC-R014",
        "a size of the contract has no value here",
        at=at,
        expected="an expression over " + ", ".join(sorted(values)),
        found=dim,
    )
