"""A compiled bundle as its user has it: the same bytes every time, the same logits everywhere."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hetc
from hetc.driver import CompileOptions, compile_bundle, inspect, load, verify
from hetc.errors import HetcError, RuntimeFault
from tests.driver.conftest import Subjects
from tests.driver.models import CONTEXT, VOCABULARY, build, eager, save, tokens
from tests.driver.stepping import difference, largest_error

ROOT = Path(__file__).parents[2]


def contents(bundle: Path) -> dict[str, bytes]:
    files = (path for path in bundle.rglob("*") if path.is_file())
    return {str(path.relative_to(bundle)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("family", "prefill"), [("llama", "h200"), ("gpt_oss", "sn40l")])
@pytest.mark.usefixtures("compiled_kernels")
def test_the_same_model_gives_the_same_bytes(
    subjects: Subjects, family: str, prefill: str, tmp_path: Path
) -> None:
    """In another process, with another hash seed, to another path, on another day; kernels for a
    GPU as well."""
    source = subjects(family).source
    once = compile_bundle(source, tmp_path / "once", CompileOptions(prefill=prefill)).path
    script = (
        "import sys; from pathlib import Path; from hetc.driver import *;"
        "compile_bundle(Path(sys.argv[1]), Path(sys.argv[2]), CompileOptions(sys.argv[3]))"
    )
    again = tmp_path / "elsewhere" / "again"
    again.parent.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Pacific/Apia"}
    command = [sys.executable, "-c", script, str(source), str(again), prefill]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    first, second = contents(once), contents(again)
    assert ("prefill/launches.json" in first) == (prefill == "h200")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("family", ["mistral", "gpt_oss", "bloom", "deepseek_v3"])
def test_executors_agree(subjects: Subjects, family: str) -> None:
    subject = subjects(family)
    ids = tokens(2, 20).numpy()
    with load(subject.path, executor="reference") as reference:
        assert reference.executors == {"prefill": "reference", "decode": "reference"}
        expected, state = reference.prefill(ids[:, :12])
        rest, _ = reference.decode(ids[:, 12:], state)
    found, state = subject.bundle.prefill(ids[:, :12])
    assert difference(found, expected) <= 1e-4
    assert difference(subject.bundle.decode(ids[:, 12:], state)[0], rest) <= 1e-4


@pytest.mark.parametrize(
    ("dtype", "stored", "tolerance"), [("fp32", 4, 1e-5), ("fp16", 2, 1e-2), ("bf16", 2, 5e-2)]
)
def test_dtype_of_the_weights(
    subjects: Subjects, dtype: str, stored: int, tolerance: float, tmp_path: Path
) -> None:
    subject = subjects("llama")
    with hetc.compile(subject.source, output=tmp_path / "bundle", dtype=dtype) as bundle:
        (weights,) = (tmp_path / "bundle" / "weights").iterdir()
        elements = bundle.manifest.model.parameters
        assert stored * elements <= weights.stat().st_size <= stored * elements + 8192
        ids = tokens(2, 20)
        expected = eager(subject.model, ids)
        scale = float(np.abs(expected).max())
        assert largest_error(bundle, ids.numpy(), expected, 12, 1) <= tolerance * scale
    assert verify(tmp_path / "bundle").ok
    assert verify(tmp_path / "bundle", executor="reference").ok


def test_prompts_of_a_batch_do_not_touch_each_other(subjects: Subjects) -> None:
    bundle = subjects("mistral").bundle
    prompts = [row.tolist() for row in tokens(3, 11)]
    prompts += [prompts[0][:5], prompts[1] + prompts[2]]
    together = bundle.generate(prompts, max_new_tokens=12)
    alone = [bundle.generate(prompt, max_new_tokens=12) for prompt in prompts]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert len({one.token_ids for one in together}) == len(prompts)


def test_greedy_tokens_are_those_of_the_eager_model(subjects: Subjects) -> None:
    subject = subjects("qwen3")
    ids = tokens(1, 9)
    found = subject.bundle.generate(ids[0].tolist(), max_new_tokens=16)
    for token in found.token_ids:
        assert int(eager(subject.model, ids)[0, -1].argmax()) == token
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    assert len(set(found.token_ids)) > 4
    assert (found.finish_reason, found.new_tokens, found.prompt_tokens) == ("length", 16, 9)


def test_the_context_is_enforced(subjects: Subjects, tmp_path: Path) -> None:
    source = subjects("llama").source
    with hetc.compile(source, output=tmp_path / "bundle", context=16) as bundle:
        assert bundle.contract.max_context == 16
        ids = tokens(1, 17).numpy()
        with pytest.raises(RuntimeFault, match="HETC-R022"):
            bundle.prefill(ids)
        _, state = bundle.prefill(ids[:, :15])
        _, state = bundle.decode(ids[:, 15:16], state)
        with pytest.raises(RuntimeFault, match="HETC-R022"):
            bundle.decode(ids[:, 16:], state)
        answer = bundle.generate(ids[0, :10].tolist(), max_new_tokens=50)
        assert (answer.finish_reason, answer.new_tokens) == ("context", 6)
    whole = subjects("llama").bundle
    assert whole.contract.max_context == CONTEXT
    with pytest.raises(RuntimeFault, match="HETC-R022"):
        whole.generate([5] * CONTEXT)


def test_a_state_is_spent_by_decoding(subjects: Subjects) -> None:
    bundle = subjects("phi3").bundle
    ids = tokens(1, 12).numpy()
    _, state = bundle.prefill(ids[:, :10])
    fork = state.copy()
    first, _ = bundle.decode(ids[:, 10:], state)
    with pytest.raises(RuntimeFault) as caught:
        bundle.decode(ids[:, 10:], state)
    assert caught.value.code.startswith("HETC-R01")
    np.testing.assert_array_equal(bundle.decode(ids[:, 10:], fork)[0], first)


def test_a_configuration_without_weights_is_a_plan(subjects: Subjects, tmp_path: Path) -> None:
    source = save(build("qwen2"), tmp_path / "qwen2")
    for file in source.glob("*.safetensors"):
        file.unlink()
    compiled = compile_bundle(source, tmp_path / "plan", CompileOptions())
    assert any("no weights" in line for line in compiled.summary)
    with load(compiled.path) as bundle:
        assert (bundle.manifest.kind, bundle.executors) == ("plan", {})
        for call in (lambda: bundle.generate([1, 2]), lambda: bundle.prefill([1, 2])):
            with pytest.raises(RuntimeFault) as caught:
                call()
            assert caught.value.code == "HETC-R001"
    whole, plan = (
        inspect(subjects("qwen2").path, CompileOptions()),
        inspect(compiled.path, CompileOptions()),
    )
    # Weights change what can be run, not what is decided.
    assert plan.ops == whole.ops
    assert inspect(source, CompileOptions()).ops == plan.ops
    assert verify(compiled.path).ok


def test_a_bundle_without_a_path_lives_as_long_as_it_is_held(subjects: Subjects) -> None:
    bundle = hetc.compile(subjects("llama").source)
    path = bundle.files.root
    assert bundle.generate([5, 6, 7], max_new_tokens=3).new_tokens == 3
    del bundle
    gc.collect()
    assert not path.exists()


def test_a_prompt_that_is_no_prompt(subjects: Subjects) -> None:
    bundle = subjects("llama").bundle
    for prompt in ([], [VOCABULARY], [-1], "text, but there is no tokenizer"):
        with pytest.raises(HetcError):
            bundle.generate(prompt)


def test_the_manifest_names_the_targets(subjects: Subjects, tmp_path: Path) -> None:
    options = CompileOptions(prefill="h100", decode="sn50", prompt_tokens=20, new_tokens=8, batch=4)
    manifest = compile_bundle(subjects("opt").source, tmp_path / "bundle", options).manifest
    assert {phase: target.name for phase, target in manifest.targets.items()} == {
        "prefill": "h100",
        "decode": "sn50",
    }
    workload = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())["workload"]
    assert (workload["batch"], workload["prompt_tokens"], workload["new_tokens"]) == (4, 20, 8)
