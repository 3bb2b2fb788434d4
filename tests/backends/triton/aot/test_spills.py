"""Spilled registers: in a loop, or once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hetc.backends.triton.compile import Cubin
from hetc.backends.triton.spills import spills_in_loop

BEFORE = """
    /*0000*/                   STL [R1+0x8], R44 ;                     /* 0x00000008ff2c7387 */
    /*0010*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ; /* 0x00000a00ff017624 */
    /*0020*/              @!P0 BRA 0x10 ;                              /* 0xffffffb400d87947 */
    /*0030*/                   LDL.LU R113, [R1+0xc] ;                 /* 0x00000c0001717983 */
    /*0040*/                   EXIT ;                                  /* 0x000000000000794d */
"""
INSIDE = BEFORE.replace("BRA 0x10", "BRA 0x0")
# The end of the kernel waits in a place of its own, behind it, and goes on where it stood.
ASIDE = """
    /*0000*/                   STL [R1+0x8], R44 ;
    /*0010*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R2 ;
    /*0020*/               @P0 BRA 0x50 ;
    /*0030*/                   LDL R44, [R1+0x8] ;
    /*0040*/                   EXIT ;
    /*0050*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R2 ;
    /*0060*/               @P0 BRA 0x50 ;
    /*0070*/                   BRA 0x30 ;
"""
# An uniform predicate stands among the operands.
UNIFORM = """
    /*0000*/                   LDL R44, [R1+0x8] ;
    /*0010*/                   BRA.U UP0, 0x0 ;
    /*0020*/                   EXIT ;
"""
ENDS_BEFORE = """
    /*0000*/                   BRA 0x30 ;
    /*0010*/                   LDL R44, [R1+0x8] ;
    /*0020*/                   EXIT ;
    /*0030*/                   NOP ;
    /*0040*/               @P0 BRA 0x10 ;
    /*0050*/                   BRA 0x30 ;
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (BEFORE, False),
        (INSIDE, True),
        (ASIDE, False),
        (UNIFORM, True),
        (ENDS_BEFORE, False),
        ("", False),
    ],
)
def test_loops_are_found(code: str, expected: bool) -> None:
    assert spills_in_loop(code) is expected


def test_what_a_product_has_too_many_of_is_spilled_in_its_loop(cubins: Mapping[str, Cubin]) -> None:
    found = {name for name, cubin in cubins.items() if cubin.spills_in_loop}
    assert found == {"spilling sm_80", "spilling sm_90"}
