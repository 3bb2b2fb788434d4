"""Why a model is taken as one function, beside what its signature says."""

from __future__ import annotations

from hetc.errors import Reason

ASKED = Reason("HETC-I011", "it was asked to be compiled as one phase")
HOW_TO_ASK = "compile it as one phase with --phases none"
