"""The quality of a quantized model, on a text that every model can read."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer as Vocabulary

from hetc.driver.plan import Planned
from hetc.ir.types import Array
from hetc.passes.quality import Quality, quality

TOKENS = 64
_TEXT = (
    "The harbour was quiet before the storm. Fishermen pulled their boats onto the sand, tied the "
    "nets to wooden posts and looked at the sky. In 1953 the water had risen by more than three "
    "metres; nobody in the village had forgotten it. def area(radius): return 3.14159 * radius ** 2"
)


def quality_of(planned: Planned) -> Quality:
    """The model with quantized matrices against itself with its own, teacher-forced on a short
    text; on arbitrary tokens where it has no tokenizer."""
    quantized = planned.lowered.quantized
    assert quantized is not None, "a quantized model"
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return quality(
            quantized.before,
            quantized.weights,
            quantized.result.graph,
            planned.lowered.weights,
            _tokens(planned),
        )


def _tokens(planned: Planned) -> Array:
    count = min(TOKENS, planned.program.max_context)
    tokenizer = planned.model.tokenizer
    ids: list[int] = []
    if tokenizer is not None:
        ids = Vocabulary.from_str(tokenizer.tokenizer_json.decode()).encode(_TEXT).ids[:count]
    if len(ids) < 2:
        return np.random.default_rng(0).integers(0, planned.vocabulary, (1, count))
    return np.array([ids], np.int64)
