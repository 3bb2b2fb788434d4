"""Count ONNX's node tests: `python -m tests.frontends.onnx_nodes [--write]`; `--write` writes
docs/onnx-coverage.md, and a name shows why that test fails.
"""

from __future__ import annotations

import sys

from tests.frontends.onnx_nodes.cases import failure, node_cases
from tests.frontends.onnx_nodes.page import PAGE, counts, page
from tests.frontends.onnx_nodes.scope import out_of_scope


def main(arguments: list[str]) -> None:
    names = [name for name in arguments if name != "--write"]
    cases = {name: node_cases()[name] for name in names} or node_cases()
    failures = {name: failure(case) for name, case in cases.items()}
    for name, problem in failures.items():
        if problem and (names or not out_of_scope(cases[name])):
            print(f"{name}: {problem}")
    if names:
        return
    total, inside, passing = counts(failures)
    print(f"{total} node tests, {inside} in scope, {passing} passing ({passing / inside:.2%})")
    if "--write" in arguments:
        PAGE.write_text(page(failures), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
