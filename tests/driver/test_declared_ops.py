"""Ops that hetc does not know, on tokens: kept, counted and run where they are declared to work
token by token, and a declaration that is false is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from hetc.cli import main
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.driver.plan import plan
from hetc.driver.summary import summarize
from hetc.driver.verify import verify
from hetc.errors import HetcError
from tests.driver.models import VOCABULARY, export, tokens
from tests.driver.stepping import largest_error
from tests.frontends.onnx_exports import write_text
from tests.golden import Golden

WIDTH = 16
Function = Callable[[Tensor], Tensor]


def custom(name: str, function: Function, fake: Function = torch.empty_like) -> Function:
    """`function` as the op `hetc_tests::name`."""
    op = torch.library.custom_op(
        f"hetc_tests::{name}", mutates_args=(), schema="(Tensor x) -> Tensor"
    )(function)
    op.register_fake(fake)
    return op


rotate = custom("rotate", lambda x: torch.roll(x, 1, -1))
reverse = custom("reverse", lambda x: torch.flip(x, (1,)))
average = custom("average", lambda x: x.mean(1, keepdim=True).expand_as(x).contiguous())
drift = custom("drift", lambda x: x + 1e-3 * x.cumsum(1))
pooled = custom("pooled", lambda x: x.mean(1, True), lambda x: torch.empty_like(x[:, :1]))
needs_four = custom("needs_four", lambda x: x.view(x.shape[0], 4, -1, x.shape[2]).view_as(x) * 2)
misdescribed = custom("misdescribed", lambda x: x[..., 1:].contiguous())


class Decoder(torch.nn.Module):
    """One causal attention between an embedding and a head, and an op before and after it."""

    def __init__(self, op: Function, *, flat: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)
        self.op, self.flat = op, flat

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self._applied(self.embed(input_ids))
        q, k, v = (part[:, None] for part in (4 * self.qkv(x)).chunk(3, -1))
        x = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits: Tensor = self.head(self._applied(x[:, 0]))
        return logits

    def _applied(self, x: Tensor) -> Tensor:
        if self.flat:
            return x + self.op(x.reshape(-1, WIDTH)).view_as(x)
        return x + self.op(x)


def ours(name: str) -> str:
    """The name of a custom op as PyTorch writes it."""
    return f"hetc_tests.{name}.default"


def declaring(folder: Path, *names: str) -> CompileOptions:
    """Options with a policy that declares these ops token-wise."""
    path = folder / "policy.toml"
    path.write_text(f"token_wise = {list(names)}", "utf-8")
    return CompileOptions(policy=path)


def refused(source: ExportedProgram | Path, folder: Path, options: CompileOptions) -> HetcError:
    """The error of compiling `source`, which leaves nothing behind."""
    with pytest.raises(HetcError) as caught:
        compile_bundle(source, folder / "bundle", options)
    assert not (folder / "bundle").exists()
    return caught.value


@pytest.mark.parametrize("flat", [False, True])
def test_a_declared_op_runs_in_both_halves(
    flat: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Decoder(rotate, flat=flat).eval()
    compiled = compile_bundle(
        export(model), tmp_path / "bundle", declaring(tmp_path, ours("rotate"))
    )
    said = "hetc_tests.rotate.default works token by token"
    assert compiled.manifest.assumptions == (said,)
    (note,) = (line for line in compiled.summary if said in line)
    assert note.split(maxsplit=1) == [
        "note",
        f"assumed, not proven: {said} · held in the self-check",
    ]
    assert f"assumed, not proven: {said}" in (compiled.path / "report.html").read_text("utf-8")
    kept = [item for item in compiled.manifest.fallbacks if item.code == "HETC-I210"]
    assert len(kept) == 2
    with load(compiled.path) as bundle, torch.no_grad():
        assert bundle.executors == {"prefill": "reference", "decode": "reference"}
        ids = tokens(2, 20)
        for prompt, chunk in ((12, 1), (12, 3), (1, 4)):
            assert largest_error(bundle, ids.numpy(), model(ids).numpy(), prompt, chunk) <= 1e-4
    assert verify(compiled.path).ok
    assert main(["run", str(compiled.path), "--tokens", "1,2,3", "-n", "4"]) == 0
    assert len(capfd.readouterr().out.replace(",", " ").split()) == 4


def test_an_undeclared_op_says_what_to_declare(tmp_path: Path, golden: Golden) -> None:
    error = refused(export(Decoder(rotate).eval()), tmp_path, CompileOptions())
    golden("undeclared_op.txt", error.render())


@pytest.mark.parametrize("op", [reverse, average, drift], ids=["reverse", "average", "drift"])
def test_a_false_declaration_is_found_out(
    op: Function, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    error = refused(export(Decoder(op).eval()), tmp_path, declaring(tmp_path, ours(name)))
    assert error.code == "HETC-V004"
    assert ours(name) in error.what
    assert error.exit_code == 1


def test_a_false_declaration_reads_well(tmp_path: Path, golden: Golden) -> None:
    error = refused(export(Decoder(reverse).eval()), tmp_path, declaring(tmp_path, ours("reverse")))
    golden("false_declaration.txt", error.render())


def test_sizes_that_do_not_follow_the_tokens_are_refused(tmp_path: Path, golden: Golden) -> None:
    error = refused(export(Decoder(pooled).eval()), tmp_path, declaring(tmp_path, ours("pooled")))
    golden("declared_sizes.txt", error.render())


def test_an_op_that_fails_on_fewer_tokens_is_named(tmp_path: Path) -> None:
    program = export(Decoder(needs_four).eval())
    error = refused(program, tmp_path, declaring(tmp_path, ours("needs_four")))
    assert error.code == "HETC-E002"
    assert "hetc_tests.needs_four.default" in error.what


def test_an_op_that_lies_about_its_sizes_is_named(tmp_path: Path) -> None:
    program = export(Decoder(misdescribed).eval())
    error = refused(program, tmp_path, declaring(tmp_path, ours("misdescribed")))
    assert error.code == "HETC-E003"
    assert "hetc_tests.misdescribed.default" in error.what


def test_a_name_that_no_op_has(tmp_path: Path, golden: Golden) -> None:
    error = refused(export(Decoder(rotate).eval()), tmp_path, declaring(tmp_path, ours("rotat")))
    golden("no_such_declared_op.txt", error.render())
    known = refused(
        export(Decoder(torch.relu).eval()),
        tmp_path,
        declaring(tmp_path, ours("rotate")),
    )
    assert known.expected == "no names: hetc knows every op of this model"


def test_what_is_not_checked_says_so(tmp_path: Path) -> None:
    planned = plan(export(Decoder(rotate).eval()), declaring(tmp_path, ours("rotate")), print)
    (note,) = (line for line in summarize(planned, None) if line.startswith("note"))
    assert "assumed, unchecked: hetc_tests.rotate.default" in note


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_is_checked_in_f32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = Decoder(rotate).to(dtype).eval()
    compiled = compile_bundle(
        export(model), tmp_path / "bundle", declaring(tmp_path, ours("rotate"))
    )
    assert compiled.manifest.model.dtype == ("bf16" if dtype is torch.bfloat16 else "f16")
    assert verify(compiled.path).ok


ONNX_OPS = {
    # ONNX Runtime runs the first, ONNX's reference evaluator the others.
    "com.microsoft::TransposeMatMul": "y = com.microsoft.TransposeMatMul <transB = 1> (x, w)",
    "ai.onnx.ml::Binarizer": "y = ai.onnx.ml.Binarizer <threshold = 0.5> (x)",
    "ai.onnx.ml::Scaler": "y = ai.onnx.ml.Scaler <offset = [0.5], scale = [2.0]> (x)",
}
# It ends when its sum is large: who imports it cannot know, so that it is kept.
SUMMING = """
    y = Loop (two, yes, x) <body = step (int64 i, bool c, float[batch, sequence, 4] h)
        => (bool again, float[batch, sequence, 4] next) { top = ReduceMax <keepdims = 0> (h)
                                                          again = Less (top, far)
                                                          next = CumSum (h, one) }>"""


def onnx_decoder(folder: Path, line: str) -> Path:
    """A decoder whose tokens pass through `line`, which makes y[batch, sequence, 4] from x."""
    numbers = torch.arange(32) % 7 - 3
    listed = ", ".join(str(float(number)) for number in numbers)
    half = ", ".join(str(float(number)) for number in numbers[:16])
    text = f"""
    lm (int64[batch, sequence] input_ids) => (float[batch, sequence, 8] logits)
    <float[batch, sequence, 4] y, float[8, 4] table = {{{listed}}},
     float[4, 4] w = {{{half}}}, float[4, 8] head = {{{listed}}},
     int64 one = {{1}}, int64 two = {{2}}, bool yes = {{1}}, float far = {{1e9}}>
    {{ x = Gather (table, input_ids)
       {line}
       logits = MatMul (y, head) }}"""
    return write_text(folder / "decoder.onnx", text)


@pytest.mark.parametrize("target", ONNX_OPS)
def test_a_declared_onnx_op_runs_in_both_halves(target: str, tmp_path: Path) -> None:
    source = onnx_decoder(tmp_path, ONNX_OPS[target])
    error = refused(source, tmp_path, CompileOptions())
    assert error.do.endswith(f'token_wise = ["{target}"]')
    compiled = compile_bundle(source, tmp_path / "bundle", declaring(tmp_path, target))
    assert compiled.manifest.assumptions == (f"{target} works token by token",)
    assert [item.code for item in compiled.manifest.fallbacks].count("HETC-I310") == 1
    found = verify(compiled.path, source)
    assert found.ok, found.checks
    assert len(found.checks) == 3


def test_a_false_declaration_of_an_onnx_op_is_found_out(tmp_path: Path) -> None:
    source = onnx_decoder(tmp_path, SUMMING)
    error = refused(source, tmp_path, declaring(tmp_path, "ai.onnx::Loop"))
    assert error.code == "HETC-V004"


def test_an_elementwise_onnx_op_needs_no_declaration(tmp_path: Path) -> None:
    source = onnx_decoder(tmp_path, "y = Sinh (x)")
    compiled = compile_bundle(source, tmp_path / "bundle", CompileOptions())
    assert compiled.manifest.assumptions == ()
    assert verify(compiled.path, source).ok
