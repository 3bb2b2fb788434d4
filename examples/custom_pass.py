"""A pass of your own: match, check and rewrite, kept apart, on IR text."""

from hetc.errors import Reason
from hetc.ir.op import Op
from hetc.ir.ops.elementwise import Mul
from hetc.ir.text import parse, print_graph
from hetc.passes.rewrite import Match, Rewrite, RewriteLog, apply, literal, node, var

mul = node(Mul)


class FoldScales(Rewrite):
    """(x * a) * b  ->  x * (a * b), for literals"""

    patterns = (mul(mul(var("x"), literal("a")), literal("b")),)

    def check(self, match: Match) -> Reason | None:
        dtype = match.root.result.dtype
        if not dtype.is_float:
            return Reason("MY-0001", f"a product of {dtype} may overflow", at=match.root.loc)
        return None

    def rewrite(self, match: Match) -> Op:
        return Mul(match.value("x"), match.number("a") * match.number("b"), loc=match.root.loc)


BEFORE = """
graph @scores(%q: f32[B,9,S,64], %k: f32[B,9,64,S], %ids: i32[B,S]) {
  %0 = mul %q, 0.5          @layers.0.self_attn
  %1 = mul %0, 0.25         @layers.0.self_attn
  %2 = matmul %1, %k        @layers.0.self_attn
  %3 = mul %ids, 3          @buckets
  %4 = mul %3, 5            @buckets
  return %2, %4
}
"""

log = RewriteLog()
print(print_graph(apply(parse(BEFORE), [FoldScales()], log)))
print("fired  ", log.fired)
print("refused", *log.refused)
