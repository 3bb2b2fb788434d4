"""A row program as a Triton kernel."""

from __future__ import annotations

from collections.abc import Mapping

from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.row_program import RowProgram
from hetc.bundle.launches import Argument, Launch


def kernel(program: RowProgram, symbol: str = "rows") -> Kernel:
    """The kernel of `launch`, whose function is called `symbol`."""
    raise NotImplementedError


def launch(
    program: RowProgram,
    kernel_id: str,
    operands: Mapping[str, Argument],
    ops: tuple[str, ...] = (),
) -> Launch:
    """Bind `operands` by the names of the accesses (and of their `index`); what the caller gives
    (positions, sequences, starts) is bound where the program needs it."""
    raise NotImplementedError
