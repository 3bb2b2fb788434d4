"""Why a model is taken as one function, beside what its signature says."""

from __future__ import annotations

from hetc.errors import Reason

ASKED = Reason("HETC-I011", "it was asked to be compiled as one phase")
HOW_TO_ASK = "compile it as one phase with --phases none"
# What encoders call their results: a float for every token, and yet no logits.
HIDDEN_STATES = ("last_hidden_state", "hidden_states", "encoder_last_hidden_state")
