"""What `hetc bench` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hetc.report.tables import Column, table
from hetc.report.units import amount, duration, percent, plural, significant

_RATES = (
    Column("phase"),
    Column("tokens", right=True),
    Column("batch", right=True),
    Column("time", right=True),
    Column("tokens/s", right=True),
    Column("MBU", right=True),
    Column("MFU", right=True),
)
_BEYOND = (
    "note: above 100 % of what was measured between the cases: the machine was busier then, or "
    "what is read lies in its caches"
)


def bench_lines(found: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Lines from the object of `hetc bench --json`."""
    machine = found["machine"]
    rates = amount(machine["read_bytes_per_s"], "B/s"), amount(machine["f32_flops_per_s"], "FLOP/s")
    how = f"reads {rates[0]} · f32 products {rates[1]} (measured between the cases)"
    executors = " + ".join(dict.fromkeys(found["executors"].values()))
    loaded = f"loaded in {duration(found['load_s'])}"
    first = f"first token of a short prompt after {duration(found['first_token_s'])}"
    weights = f"weights {amount(found['weight_bytes'], 'B')}"
    peak = found["peak_memory_bytes"]
    memory = weights + (f" · {amount(peak, 'B')} of memory at most" if peak is not None else "")
    return [
        f"{found['name']}    {executors}",
        f"{machine['cpu']} · {plural(machine['cores'], 'core')} · {how}",
        f"{loaded} · {first} · {memory}",
        *(f"note: an executor was passed over: {reason}" for reason in found["fallbacks"]),
        "",
        *table(_RATES, [list(_rate(rate)) for rate in found["rates"]], width).splitlines(),
        *(f"left out: {reason}" for reason in found["left_out"]),
        *([_BEYOND] if any(max(rate["mbu"], rate["mfu"]) > 1 for rate in found["rates"]) else []),
    ]


def _rate(rate: Mapping[str, Any]) -> Iterator[str]:
    """Prefill is limited by products, decode by reading: each has the share that matters."""
    yield from (rate["phase"], f"{rate['tokens']:,}", f"{rate['batch']:,}")
    yield duration(rate["seconds"])
    yield significant(rate["tokens_per_s"])
    decodes = rate["phase"] == "decode"
    yield percent(rate["mbu"]) if decodes else ""
    yield "" if decodes else percent(rate["mfu"])
