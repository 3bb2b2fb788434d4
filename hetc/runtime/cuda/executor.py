"""Runs a prefill half on an NVIDIA GPU; decode is another executor's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.prefill import CudaOptions, Prefill
from hetc.runtime.executor import ExecutorFactory, Half
from hetc.runtime.state import State


class CudaExecutor:
    """A prefill half on a GPU, from the cubins of its launch plan: no compiler takes part.

    `driver` stands in for the machine's own.
    """

    name = "cuda"

    def __init__(self, options: CudaOptions | None = None, driver: Driver | None = None) -> None:
        self._options = options or CudaOptions()
        self._driver = driver
        self._prefill: Prefill | None = None
        self._contract_sha256 = ""

    def prepare(self, bundle: OpenBundle, half: Half) -> None:
        """Load kernels and weights onto the GPU; see `Prefill` for what it raises.

        Raises RuntimeFault HETC-R060 for a decode half.
        """
        if half != "prefill":
            raise RuntimeFault(
                "HETC-R060",
                "the cuda executor runs prefill halves only",
                found=half,
                do="leave decode to the next executor of the bundle, as hetc.load does",
            )
        self._prefill = Prefill(bundle, self._options, self._driver)
        self._contract_sha256 = bundle.manifest.contract_sha256

    def bind(self, *, batch: int, context: int) -> None:
        """Nothing to do: memory grows with the prompts, and answers need none here."""

    def run(self, tokens: NDArray[np.int64], state: State | None) -> tuple[NDArray[Any], State]:
        """Prefill `tokens` [B, S]; see `Executor.run`.

        Raises RuntimeFault: HETC-R057 for more tokens than the plan takes, R052 where the GPU's
        memory does not hold them, R053 where a kernel failed.
        """
        if self._prefill is None:
            raise RuntimeFault(
                "HETC-R004", "this executor is closed", at=self.name, do="load the bundle again"
            )
        logits, tensors = self._prefill.run(tokens)
        after = State(self._contract_sha256, tokens.shape[1], tensors, owner="prefill")
        return logits, after

    def close(self) -> None:
        """Give the GPU back; states that someone holds stay readable."""
        prefill, self._prefill = self._prefill, None
        if prefill is not None:
            prefill.close()


def cuda_executors(options: CudaOptions | None = None) -> ExecutorFactory:
    """A factory of executors for prefill halves."""
    return lambda: CudaExecutor(options)
