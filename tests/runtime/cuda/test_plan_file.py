"""Launch plans that contradict themselves or their bundle are refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hetc.bundle import open_bundle
from hetc.bundle.launches import Extent, LaunchPlan, SizeOf
from hetc.errors import BundleError, RuntimeFault
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.prefill import Prefill
from tests.runtime import toy
from tests.runtime.cuda.plan_bundles import cubins
from tests.runtime.cuda.stub_driver import StubBindings, cubin
from tests.runtime.cuda.toy_plan import TOY_KERNELS, toy_plan, write_toy

replace = msgspec.structs.replace
Change = Callable[[LaunchPlan], LaunchPlan]


def in_first(**fields: Any) -> Change:
    """Fields of the first launch."""
    return lambda plan: replace(
        plan, launches=(replace(plan.launches[0], **fields), *plan.launches[1:])
    )


def in_kernel(**fields: Any) -> Change:
    """Fields of the kernel of the first launch."""
    return lambda plan: replace(
        plan, kernels=plan.kernels | {"embed-1": replace(plan.kernels["embed-1"], **fields)}
    )


def in_buffer(**fields: Any) -> Change:
    """Fields of the buffer `sums`."""
    return lambda plan: replace(plan, buffers=(plan.buffers[0], replace(plan.buffers[1], **fields)))


def in_all(**fields: Any) -> Change:
    """Fields of the plan."""
    return lambda plan: replace(plan, **fields)


PLAN = toy_plan()
VALID = msgspec.json.encode(PLAN)
EMBED, FIRST = PLAN.kernels["embed-1"], PLAN.launches[0]
UNKNOWN = replace(PLAN.launches[1].arguments[2], name="other")
WIDE = replace(EMBED.parameters[3], type="i64")
TOKENS, TABLE, *BEHIND = EMBED.parameters


def in_table(**fields: Any) -> Change:
    """Fields of the parameter that is a matrix."""
    return in_kernel(parameters=(TOKENS, replace(TABLE, **fields), *BEHIND))


def in_matrix(**fields: Any) -> Change:
    """Fields of its matrix."""
    assert TABLE.matrix is not None
    return in_table(matrix=replace(TABLE.matrix, **fields))


def in_boxes(**fields: Any) -> Change:
    """Fields of the box of every build; none of them has one without fields."""
    changed = [replace(box, **fields) for box in EMBED.builds[0].boxes] if fields else []
    return in_kernel(builds=tuple(replace(b, boxes=tuple(changed)) for b in EMBED.builds))


REFUSED: dict[str, tuple[Change, str, str]] = {
    "kernel": (in_first(kernel="none"), "HETC-R054", "no kernel"),
    "a matrix of numbers": (in_table(type="*i32"), "HETC-R054", "without a tensor map"),
    "rows of a matrix": (in_matrix(columns=15), "HETC-R054", "30 bytes"),
    "no box": (in_boxes(), "HETC-R054", "other tensor maps"),
    "a box": (in_boxes(rows=512), "HETC-R054", "copies too much"),
    "a swizzle": (in_boxes(swizzle=48), "HETC-R054", "no known form"),
    "arity": (in_first(arguments=FIRST.arguments[1:]), "HETC-R054", "3 for 4"),
    "kind": (in_first(arguments=FIRST.arguments[::-1]), "HETC-R054", "another kind"),
    "name": (in_first(arguments=(UNKNOWN, *FIRST.arguments[1:])), "HETC-R054", "names no memory"),
    "memory": (in_first(writes=("other",)), "HETC-R054", "names no memory"),
    "constant": (
        in_first(grid=((Extent(size="M", by="TILE"),), (), ())),
        "HETC-R054",
        "names no constant",
    ),
    "division": (in_first(grid=((Extent(size="M", by=0),), (), ())), "HETC-R054", "by nothing"),
    "type": (
        in_kernel(parameters=(*EMBED.parameters[:3], replace(WIDE, type="f64"))),
        "HETC-R054",
        "unknown type",
    ),
    "config": (in_kernel(configs=EMBED.configs[:1]), "HETC-R054", "no configuration"),
    "cubin": (
        in_kernel(builds=(replace(EMBED.builds[0], cubin="other"), *EMBED.builds[1:])),
        "HETC-R054",
        "no file",
    ),
    "choice": (
        in_kernel(choices=EMBED.choices | {"sm_90": EMBED.choices["sm_90"][:1]}),
        "HETC-R054",
        "do not end",
    ),
    "not built": (in_kernel(builds=EMBED.builds[:3]), "HETC-R054", "was not built"),
    "no arch": (in_kernel(choices={}), "HETC-R055", "found: none"),
    "parameters": (
        in_kernel(parameters=(*EMBED.parameters[:3], WIDE)),
        "HETC-R054",
        "other parameters",
    ),
    "shared": (
        in_kernel(builds=tuple(replace(b, shared_bytes=2**20) for b in EMBED.builds)),
        "HETC-R054",
        "more shared memory",
    ),
    "twice": (in_all(buffers=PLAN.buffers * 2), "HETC-R054", "one name"),
    "offset": (
        in_first(
            arguments=(
                FIRST.arguments[0],
                replace(FIRST.arguments[1], offset=8256),
                *FIRST.arguments[2:],
            )
        ),
        "HETC-R054",
        "beyond its weight",
    ),
    "constant bytes": (
        in_all(weights=(replace(PLAN.weights[0], tensors=(), data="AAAAAAAA"), PLAN.weights[1])),
        "HETC-R056",
        "6 bytes",
    ),
    "no base64": (
        in_all(weights=(replace(PLAN.weights[0], tensors=(), data="A"), PLAN.weights[1])),
        "HETC-R054",
        "no base64",
    ),
    "turns": (
        in_all(weights=(replace(PLAN.weights[0], turn=5), PLAN.weights[1])),
        "HETC-R054",
        "cannot take turns",
    ),
    "no turns": (
        in_all(weights=(replace(PLAN.weights[0], turn=-1), PLAN.weights[1])),
        "HETC-R054",
        "no matrix",
    ),
    "weights": (in_all(weight_bytes=100), "HETC-R054", "a weight leaves"),
    "bytes": (
        in_all(weights=(replace(PLAN.weights[0], bytes=32), PLAN.weights[1])),
        "HETC-R056",
        "8256 bytes",
    ),
    "element": (
        in_all(weights=(replace(PLAN.weights[0], element="f16"), PLAN.weights[1])),
        "HETC-R056",
        "bfloat16",
    ),
    "logits": (in_all(logits="sums2"), "HETC-R054", "no logits"),
    "unwritten": (
        lambda plan: replace(
            plan, launches=(*plan.launches[:2], replace(plan.launches[2], writes=()))
        ),
        "HETC-R054",
        "never written",
    ),
    "in use": (in_buffer(last=9), "HETC-R054", "in use at no launch"),
    "no state": (in_all(states=(replace(PLAN.states[0], name="s"),)), "HETC-R054", "no memory"),
    "state bytes": (in_all(states=(replace(PLAN.states[0], bytes="M"),)), "HETC-R056", "64 bytes"),
    "state type": (in_all(states=(replace(PLAN.states[0], element="f16"),)), "HETC-R056", "f16"),
}
BROKEN: dict[str, tuple[Change, str, str]] = {
    "a large matrix": (in_matrix(rows="259"), "HETC-R054", "beyond its memory"),
    "arena": (in_buffer(offset="10000*M"), "HETC-R054", "memory is left"),
    "negative": (in_buffer(offset="0 - M"), "HETC-R054", "is negative"),
    "unknown size": (in_buffer(offset="Q"), "HETC-R014", "no value"),
    "alignment": (in_buffer(offset="4", bytes="64*M"), "HETC-R058", "multiple of 16"),
    "number": (
        in_first(arguments=(*FIRST.arguments[:3], SizeOf(size="4294967296"))),
        "HETC-R058",
        "at most 2147483647",
    ),
    "no grid": (in_first(grid=((Extent(size="0"),), (), ())), "HETC-R054", "no possible size"),
    "grid": (in_first(grid=((), (Extent(size="65536"),), ())), "HETC-R054", "no possible size"),
}


def refuses(path: Path, change: Change, code: str, text: str) -> None:
    write_toy(path, change(toy_plan()))
    stub = StubBindings(TOY_KERNELS)

    def run() -> None:
        with open_bundle(path) as bundle, closing(Prefill(bundle, None, Driver(stub))) as prefill:
            prefill.run(np.ones((2, 3), np.int64))

    with pytest.raises(RuntimeFault, match=code) as error:
        run()
    assert text in str(error.value)
    assert "embed" not in stub.launches
    assert stub.live == {}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_loading(case: str, tmp_path: Path) -> None:
    refuses(tmp_path / "bundle", *REFUSED[case])


@pytest.mark.parametrize("case", BROKEN)
def test_refused_before_a_launch(case: str, tmp_path: Path) -> None:
    refuses(tmp_path / "bundle", *BROKEN[case])


def test_what_is_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for raw in (
        b"{",
        b"[]",
        b'{"schema": "hetc.launches/3"}',
        VALID[:-1],
        VALID.replace(b"launches/3", b"launches/9"),
    ):
        monkeypatch.setattr("msgspec.json.encode", lambda plan, raw=raw: raw)
        path = write_toy(tmp_path / str(len(raw)))
        with open_bundle(path) as bundle, pytest.raises(BundleError, match="launch plan"):
            Prefill(bundle, None, Driver(StubBindings(TOY_KERNELS)))


def test_a_bundle_without_a_plan(tmp_path: Path) -> None:
    path = toy.write_toy_bundle(tmp_path / "bundle")
    with open_bundle(path) as bundle, pytest.raises(RuntimeFault, match="HETC-R055"):
        Prefill(bundle, None, Driver(StubBindings(TOY_KERNELS)))


def test_a_cubin_that_was_changed(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "bundle")
    name = PLAN.kernels["head-1"].builds[-1].cubin
    sizes = [8, 8, 8, 8, 8, 4, 8, 9]
    assert len(cubins(PLAN)[name]) == len(cubin("head", sizes, 0.02))
    (path / name).write_bytes(cubin("head", sizes, 0.02))
    stub = StubBindings(TOY_KERNELS)
    with open_bundle(path, check="sizes") as bundle, pytest.raises(BundleError, match="HETC-B011"):
        Prefill(bundle, None, Driver(stub))
    assert stub.live == {}


def test_a_driver_that_tells_no_parameters(tmp_path: Path) -> None:
    """Before CUDA 12.4: the plan is taken at its word."""
    stub = StubBindings(TOY_KERNELS, has_parameter_info=False)
    with open_bundle(write_toy(tmp_path / "bundle")) as bundle:
        prefill = Prefill(bundle, None, Driver(stub))
        prefill.run(np.ones((2, 3), np.int64))
        prefill.close()
    assert stub.launches == ["embed", "sums", "head"]
