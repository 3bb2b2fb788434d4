"""The line that the first call of a compiled model writes."""

from __future__ import annotations

from hetc.interop.report import GraphReport


def summary(graph: GraphReport) -> str:
    """What became of `graph`, in one line."""
    phase = f"{graph.phase} · " if graph.phase else ""
    return (
        f"hetc: {graph.place} · {phase}{graph.ops} ops · {_where(graph)} · "
        "more: hetc.interop.last_report()"
    )


def _where(graph: GraphReport) -> str:
    if graph.whole is not None and graph.whole.calls:
        return f"all on {graph.whole.executor}"
    eager = sum(fallback.count for fallback in graph.fallbacks)
    parts = [_regions(graph)] if graph.regions else []
    if eager or not parts:
        first = f" ({graph.fallbacks[0].reason})" if graph.fallbacks else ""
        parts.append(f"{eager} by PyTorch{first}")
    return " · ".join(parts)


def _regions(graph: GraphReport) -> str:
    count = len(graph.regions)
    executors = ", ".join(sorted({region.executor for region in graph.regions}))
    return f"{count} region{'s' if count > 1 else ''} on {executors}"
