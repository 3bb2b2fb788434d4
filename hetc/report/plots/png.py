"""A scene as PNG, drawn by matplotlib on a light page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from hetc.errors import MissingDependency
from hetc.report.plots.scene import (
    PALETTE,
    Anchor,
    Area,
    Circle,
    Item,
    Point,
    Rect,
    Scene,
    Text,
)

_DPI = 200
# matplotlib counts in points; a scene's pixel is a 96th of an inch.
_POINTS = 72 / 96
_ALIGNED: Mapping[Anchor, Literal["left", "center", "right"]] = {
    "start": "left",
    "middle": "center",
    "end": "right",
}


def png(scene: Scene) -> bytes:
    """The scene as a PNG of twice its size; the same bytes for the same matplotlib.

    The one font is matplotlib's own, so that no machine has another. Raises MissingDependency
    without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependency("matplotlib", "compile", needed_for="drawing PNG") from None

    figure = Figure(figsize=(scene.width / 96, scene.height / 96), dpi=_DPI)
    figure.set_facecolor(PALETTE["card"].light)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)
    for order, item in enumerate(scene.items):
        for artist in _artists(item):
            artist.set_zorder(order)
            axes.add_artist(artist)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _artists(item: Item) -> Iterator[Any]:
    from matplotlib import patches

    if isinstance(item, Text):
        yield _text(item)
    elif isinstance(item, Rect):
        look = _look(item.fill, item.stroke, item.opacity)
        if item.radius:
            inner = (item.width - 2 * item.radius, item.height - 2 * item.radius)
            corner = (item.x + item.radius, item.y + item.radius)
            style = patches.BoxStyle.Round(pad=item.radius, rounding_size=item.radius)
            yield patches.FancyBboxPatch(corner, *inner, boxstyle=style, **look)
        else:
            yield patches.Rectangle((item.x, item.y), item.width, item.height, **look)
    elif isinstance(item, Circle):
        place = (item.x, item.y)
        yield patches.Circle(place, item.radius, **_look(item.fill, None, item.opacity))
        yield patches.Circle(place, item.radius, **_look(None, item.fill, 1.0))
    elif isinstance(item, Area):
        path = _path(item.polygons, closed=True)
        yield patches.PathPatch(path, **_look(item.fill, None, item.opacity))
    else:
        look = _look(None, item.stroke, item.opacity) | {"linewidth": item.width * _POINTS}
        if item.dashes is not None:
            look["linestyle"] = (0, tuple(length / item.width for length in item.dashes))
        cap = {"butt": "butt", "square": "projecting", "round": "round"}[item.cap]
        path = _path(item.lines, closed=False)
        yield patches.PathPatch(path, capstyle=cap, joinstyle="round", **look)


def _look(fill: str | None, stroke: str | None, opacity: float) -> dict[str, Any]:
    return {
        "facecolor": PALETTE[fill].light if fill else "none",
        "edgecolor": PALETTE[stroke].light if stroke else "none",
        "linewidth": _POINTS,
        "alpha": opacity,
    }


def _text(item: Text) -> Any:
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.text import Text as Label

    label = Label(
        item.x,
        item.y,
        # A dollar sign would begin mathematics.
        item.text.replace("$", r"\$"),
        color=PALETTE[item.fill].light,
        fontfamily="DejaVu Sans",
        fontsize=item.size * _POINTS * 0.92,
        fontweight="bold" if item.bold else "normal",
        horizontalalignment=_ALIGNED[item.anchor],
        verticalalignment="baseline",
    )
    if item.halo:
        paper = PALETTE["card"].light
        label.set_path_effects([Stroke(linewidth=3 * _POINTS, foreground=paper), Normal()])
    return label


def _path(lines: Iterable[Iterable[Point]], *, closed: bool) -> Any:
    from matplotlib.path import Path

    points: list[Point] = []
    codes: list[Any] = []
    for line in lines:
        here = list(line)
        points += [*here, here[0]] if closed else here
        codes += [Path.MOVETO, *[Path.LINETO] * (len(here) - 1)]
        codes += [Path.CLOSEPOLY] if closed else []
    return Path(points, codes)
