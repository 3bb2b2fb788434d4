"""`--quantize`: bundles with matrices of integers run, and say what that changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.driver import CompileOptions, compile_bundle, load, verify
from hetc.errors import InputError, UsageError
from tests.driver.models import build, save

WIDE = {"hidden_size": 64, "intermediate_size": 96}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build("llama", **WIDE), tmp_path_factory.mktemp("quantize") / "model")


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_both_executors_run_what_is_stored(model: Path, tmp_path: Path, form: str) -> None:
    options = CompileOptions(context=64, quantize=form, decode="host")
    made = compile_bundle(model, tmp_path / "bundle", options)
    (told,) = (line for line in made.summary if "matrices stored in groups" in line)
    assert f"as {form}" in told
    assert " nats, the same likeliest token in " in told
    assert verify(made.path).ok
    logits = []
    for executor in ("onnx", "reference"):
        with load(made.path, executor=executor) as bundle:
            names = [name for name in bundle.files.weight_names() if name.endswith(f".{form}")]
            assert names
            assert bundle.files.weight(names[0]).dtype.itemsize == 1
            logits.append(bundle.prefill([3, 4, 5, 6])[0])
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-4)


def test_matrices_by_name(model: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[quantize]\n"*.down_proj.weight" = "int8"\n', encoding="utf-8")
    options = CompileOptions(context=64, policy=policy, decode="host")
    made = compile_bundle(model, tmp_path / "bundle", options)
    with load(made.path) as bundle:
        stored = {name for name in bundle.files.weight_names() if name.endswith(".int8")}
    assert stored == {f"model.layers.{n}.mlp.down_proj.weight.int8" for n in range(2)}


def test_a_form_that_there_is_not(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        compile_bundle(model, tmp_path / "bundle", CompileOptions(quantize="int3"))
    assert (refused.value.code, refused.value.expected) == ("HETC-U010", "none, keep, int8, int4")
    policy = tmp_path / "policy.toml"
    policy.write_text('[quantize]\n"*" = "int3"\n', encoding="utf-8")
    with pytest.raises(InputError) as unread:
        compile_bundle(model, tmp_path / "bundle", CompileOptions(policy=policy))
    assert unread.value.code == "HETC-I007"
    policy.write_text('[quantize]\n"*.down.weight" = "int8"\n', encoding="utf-8")
    with pytest.raises(InputError) as unmatched:
        compile_bundle(model, tmp_path / "bundle", CompileOptions(policy=policy))
    assert (unmatched.value.code, unmatched.value.at) == ("HETC-I018", "*.down.weight")
    assert "lm_head.weight" in unmatched.value.expected


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_spatial_plan_streams_what_is_stored(model: Path, tmp_path: Path, form: str) -> None:
    """And computes what the bundle does."""
    policy, request = tmp_path / "policy.toml", tmp_path / "request.json"
    policy.write_text('[pins]\n"decode:*" = "decode"\n', encoding="utf-8")
    request.write_text('{"place_moves": 2000}', encoding="utf-8")
    options = CompileOptions(context=64, quantize=form, policy=policy, plan=request)
    made = compile_bundle(model, tmp_path / "bundle", options)
    assert "fallbacks   none" in made.summary
    checked = verify(made.path, through_the_plan=True)
    assert checked.ok, checked.as_json()
    assert "spatial plan, tile by tile" in {check.name for check in checked.checks}
