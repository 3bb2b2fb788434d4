"""Whether a kernel spills registers in a loop, from its machine code as text.

Registers that are spilled once, mostly where a tile is finished, cost next to nothing; in the loop
over the pipeline's stages they cost at each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

# An instruction as `cuobjdump -sass` writes it: place, the predicate it waits for, and the rest.
_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([^;]+);", re.MULTILINE)
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
# Loads and stores of local memory, which Triton's kernels have for spilled registers only.
_SPILLS = ("LDL", "STL")
_JUMPS = ("BRA", "CALL", "JMP")
_ENDS = ("EXIT", "RET", "BRX", "KILL")
_NOWHERE = -1


def spills_in_loop(sass: str) -> bool:
    """Whether what one spill stores or loads is stored or loaded again in the same block.

    Calls are taken as jumps that may also go on; a jump to a computed place as an end.
    """
    follows: dict[int, list[int]] = {}
    spills = []
    found = [(int(place, 16), *rest) for place, *rest in _INSTRUCTION.findall(sass)]
    for (place, predicate, text), (behind, *_) in pairwise([*found, (_NOWHERE,)]):
        follows[place] = list(_successors(predicate, text, behind))
        if text.startswith(_SPILLS):
            spills.append(place)
    return any(_comes_back(place, follows) for place in spills)


def _successors(predicate: str, text: str, behind: int) -> Iterator[int]:
    name, _, operands = text.partition(" ")
    jumps = name.startswith(_JUMPS)
    if jumps and (target := _TARGET.search(operands)):
        yield int(target[1], 16)
    # `BRA.U UP0, 0x340` has its predicate among the operands.
    always = not predicate and "," not in operands and not name.startswith("CALL")
    if not (always and (jumps or name.startswith(_ENDS))) and behind != _NOWHERE:
        yield behind


def _comes_back(start: int, follows: dict[int, list[int]]) -> bool:
    waiting, seen = [*follows[start]], set()
    while waiting:
        place = waiting.pop()
        if place == start:
            return True
        if place not in seen:
            seen.add(place)
            waiting += follows.get(place, [])
    return False
