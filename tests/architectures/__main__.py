"""Try types by hand: `python -m tests.architectures llama mamba2`, or all without names."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.architectures.attempt import TOLERANCE, attempt
from tests.architectures.case import Case
from tests.architectures.cases import CASES


def main(names: list[str]) -> None:
    for name in names or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        case = CASES.get(name, Case())
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = attempt(name, case, Path(folder))
            # Whatever a configuration that does not fit raises is what one wants to see.
            except Exception:  # noqa: BLE001
                text = "FAILED   " + traceback.format_exc(limit=-2)
            else:
                if found.refusal is not None:
                    text = f"refused  {found.refusal}"
                else:
                    word = "works  " if (found.error or 0.0) <= TOLERANCE else "WRONG  "
                    text = f"{word}  {found.error:.1e}"
        print(f"{name:24} {time.perf_counter() - start:5.1f} s  {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
