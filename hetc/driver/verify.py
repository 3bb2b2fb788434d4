"""Verify a bundle: its files, its golden vectors through the hand-off, and the original model,
teacher-forced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from hetc.bundle import ForwardEntry, open_bundle
from hetc.bundle.native import LAYOUT_FILE, NativeLayout
from hetc.bundle.schema import without_phases
from hetc.driver.load import load
from hetc.driver.through_plan import through_plan
from hetc.errors import BundleError, HetcError
from hetc.frontends.original import original_logits, original_outputs
from hetc.ir.types import Array
from hetc.runtime import Bundle

# What two implementations may differ by, relative to the logits' scale, by the type of the stored
# weights, which is the state's too. An executor that also computes in it rounds more often.
TOLERANCE = {"f32": 1e-4, "f16": 5e-3, "bf16": 2e-2}
COMPUTES_IN_F32 = {"native", "onnx"}
# By which the native engine rounds what it multiplies by quantized matrices, of the logits in all.
QUANTIZED_INPUTS = 2e-3
# And where it keeps keys and values in 8 bits: the worst logit of 1,000 tokens of SmolLM2.
QUANTIZED_STATE = 5e-2
STEPS = 4


@dataclass(frozen=True)
class Check:
    """One question asked of a bundle, and its answer."""

    name: str
    ok: bool
    detail: str


@dataclass
class Verification:
    """All checks in order. `max_abs_error` is over all compared logits, None where none were;
    `first_divergence` says where a comparison failed first."""

    checks: list[Check] = field(default_factory=list)
    max_abs_error: float | None = None
    first_divergence: dict[str, object] | None = None

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def add(self, name: str, ok: bool, detail: str) -> None:
        self.checks.append(Check(name, ok, detail))

    def saw(self, error: float) -> None:
        self.max_abs_error = max(error, self.max_abs_error or 0.0)

    def as_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "checks": [vars(check) for check in self.checks],
            "max_abs_error": self.max_abs_error,
            "first_divergence": self.first_divergence,
        }


Oracle = Callable[[Array], Array]
# Of a bundle without phases: from inputs by name to outputs in order.
WholeOracle = Callable[[Mapping[str, Array]], Sequence[Array]]


def verify(
    path: str | Path,
    against: str | Path | Oracle | WholeOracle | None = None,
    *,
    executor: str | None = None,
    through_the_plan: bool = False,
) -> Verification:
    """Check the bundle at `path`; with `against` also against the original model, and
    `through_the_plan` also the spatial plan, executed as it is written.

    `against` is a model that its own framework can run (see `original_logits`), or any function
    from tokens i64[B,S] to logits f32[B,S,V]; of a bundle without phases, from inputs by name to
    all outputs in order. A bundle that cannot be trusted gives one failed check, not an exception;
    so does an executor that cannot run.
    """
    found = Verification()
    try:
        with open_bundle(path, check="full") as files:
            manifest = files.manifest
            found.add("files", True, f"{len(manifest.files)} files match their digests")
    except BundleError as error:
        found.add("files", False, error.render())
        return found
    if manifest.kind == "plan":
        found.add("numerics", True, "nothing to run: the bundle was made without weights")
        return found
    try:
        with load(path, executor=executor) as bundle:
            if bundle.manifest.forward is not None:
                _whole(bundle, bundle.manifest.forward, against, found)
                if through_the_plan:
                    raise without_phases(bundle.manifest.forward.reason)
                return found
            _golden(bundle, found)
            if through_the_plan:
                _plan(bundle, found)
            if against is not None:
                oracle = against if callable(against) else partial(original_logits, Path(against))
                _against(bundle, cast("Oracle", oracle), found)
    except HetcError as error:
        found.add("run", False, error.render())
    return found


def _whole(
    bundle: Bundle,
    entry: ForwardEntry,
    against: str | Path | Oracle | WholeOracle | None,
    found: Verification,
) -> None:
    """A bundle without phases on its golden inputs: its golden outputs, and the original's."""
    if entry.golden is None:
        return
    tensors = bundle.files.tensors(entry.golden)
    inputs = {tensor.name: np.array(tensors[f"input.{tensor.name}"]) for tensor in entry.inputs}
    given = bundle.run(**inputs)
    golden = [np.array(tensors[f"output.{tensor.name}"]) for tensor in entry.outputs]
    _compare_outputs("golden vectors", bundle, given, golden, found)
    if against is None:
        return
    if callable(against):
        expected = cast("WholeOracle", against)(inputs)
    else:
        expected = original_outputs(Path(against), inputs)
    _compare_outputs("original model", bundle, given, expected, found)


def _compare_outputs(
    name: str,
    bundle: Bundle,
    given: Mapping[str, Array],
    expected: Sequence[Array],
    found: Verification,
) -> None:
    """Hold every output against what is expected of it, by its own scale."""
    tolerance = TOLERANCE[bundle.manifest.model.dtype]
    if not set(bundle.executors.values()) <= COMPUTES_IN_F32:
        tolerance *= 3
    worst, ok = 0.0, len(given) == len(expected)
    for (output, array), wanted in zip(given.items(), expected, strict=False):
        error, allowed = _error(array, wanted), tolerance * _scale(wanted)
        worst, fits = max(worst, error), error <= allowed
        ok = ok and fits
        if not fits and found.first_divergence is None:
            found.first_divergence = {
                "check": name,
                "output": output,
                "error": error,
                "tolerance": allowed,
            }
    found.saw(worst)
    found.add(
        name, ok, f"max error {worst:.1e} over {len(given)} outputs, {len(expected)} expected"
    )


def _error(a: Array, b: Array) -> float:
    """The largest difference; infinite where the shapes differ or one alone is not finite."""
    if a.shape != b.shape:
        return float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if not np.all(same | (np.isfinite(x) & np.isfinite(y))):
        return float("inf")
    return float(np.max(np.abs(np.where(same, 0, x - y)), initial=0.0))


def _scale(array: Array) -> float:
    wide = array.astype(np.float64)
    return max(1.0, float(np.max(np.abs(np.where(np.isfinite(wide), wide, 0)), initial=0.0)))


def _golden(bundle: Bundle, found: Verification) -> None:
    golden = bundle.manifest.golden
    if golden is None:
        return
    tensors = bundle.files.tensors("golden/golden.safetensors")
    tokens = np.array(tensors["tokens"])
    expected = np.concatenate([tensors["logits_prefill"], tensors["logits_decode"]])
    _compare("golden vectors", bundle, tokens, golden.prefill_tokens, expected, found)


def _plan(bundle: Bundle, found: Verification) -> None:
    """Decode the golden tokens through the plan's memories, queues and stages."""
    golden = bundle.manifest.golden
    if golden is None:
        return
    tensors = bundle.files.tensors("golden/golden.safetensors")
    tokens, expected = np.array(tensors["tokens"]), np.array(tensors["logits_decode"])
    # The plan computes in the type of the weights, as the reference executor does, on the state
    # that the bundle's executor leaves.
    tolerance = max(3 * TOLERANCE[bundle.manifest.model.dtype], _rounding(bundle))
    tolerance *= max(1.0, float(np.max(np.abs(expected))))
    checked = through_plan(bundle, tokens, golden.prefill_tokens, expected, tolerance)
    found.saw(checked.max_abs_error)
    if checked.first_divergence is not None and found.first_divergence is None:
        found.first_divergence = {
            "check": "spatial plan",
            "half": "decode",
            "position": checked.first_divergence,
            "error": checked.max_abs_error,
            "tolerance": tolerance,
        }
    same = f"same top token at {checked.same_top} of {checked.rows}"
    detail = f"max error {checked.max_abs_error:.1e} of {tolerance:.1e} allowed · {same}"
    found.add("spatial plan, tile by tile", checked.ok, detail)


def _against(bundle: Bundle, oracle: Oracle, found: Verification) -> None:
    manifest = bundle.manifest
    length = min(24, manifest.model.max_context)
    tokens = np.random.default_rng(1).integers(0, manifest.model.vocab, (1, length))
    split = max(1, length - STEPS * 2)
    expected = oracle(tokens)[0, split - 1 : length]
    _compare("original model, teacher-forced", bundle, tokens, split, expected, found)


def _rounding(bundle: Bundle) -> float:
    """What the native engine may differ by where it multiplies bytes, since inputs have 15 bits
    then, and where its KV state has 8."""
    if "native" not in bundle.executors.values():
        return 0.0
    layout = NativeLayout.from_bytes(bundle.files.read_bytes(LAYOUT_FILE))
    if any(state.stored != state.element for state in layout.states):
        return QUANTIZED_STATE
    quantized = any(name.endswith((".int8", ".int4")) for name in bundle.files.weight_names())
    return QUANTIZED_INPUTS if quantized else 0.0


def _compare(
    name: str, bundle: Bundle, tokens: Array, split: int, expected: Array, found: Verification
) -> None:
    """Prefill `split` tokens, decode the rest one by one, and compare each row of logits with
    `expected`."""
    tolerance = max(TOLERANCE[bundle.manifest.model.dtype], _rounding(bundle))
    tolerance *= max(1.0, float(np.max(np.abs(expected))))
    if not set(bundle.executors.values()) <= COMPUTES_IN_F32:
        tolerance *= 3
    logits, state = bundle.prefill(tokens[:, :split])
    worst, agreed = 0.0, 0
    for row, wanted in enumerate(expected):
        position = split - 1 + row
        if row:
            logits, state = bundle.decode(tokens[:, position : position + 1], state)
        given = np.asarray(logits)[0, -1]
        error = float(np.max(np.abs(given - wanted)))
        worst = max(worst, error)
        agreed += int(np.argmax(given) == np.argmax(wanted))
        if not error <= tolerance and found.first_divergence is None:
            half = "decode" if row else "prefill"
            found.first_divergence = {
                "check": name,
                "half": half,
                "position": position,
                "error": error,
                "tolerance": tolerance,
            }
    found.saw(worst)
    same = f"same top token at {agreed} of {len(expected)}"
    detail = f"max error {worst:.1e} of {tolerance:.1e} allowed · {same}"
    found.add(name, bool(worst <= tolerance), detail)
