"""What a picture is made of, in pixels from the upper left corner; `svg.py` and `png.py` draw it.

Colours are names of `PALETTE`, each with a value for light and for dark pages, so that a picture
reads on both. They differ in lightness as in hue, and nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
Cap = Literal["butt", "square", "round"]


@dataclass(frozen=True)
class Colour:
    """A colour on a light and on a dark page."""

    light: str
    dark: str


# Stages: Paul Tol's "light" scheme (Colour Schemes, SRON/EPS/TN/09-002, issue 3.2, 2021), made for
# filled cells with dark labels and for all kinds of colour blindness, and two more hues. States:
# Okabe and Ito.
STAGE_FILLS = (
    "blue",
    "orange",
    "mint",
    "yellow",
    "rose",
    "pear",
    "cyan",
    "tan",
    "pink",
    "olive",
)
PALETTE: Mapping[str, Colour] = {
    "ink": Colour("#1d1f23", "#e8e6e1"),
    "soft": Colour("#62666e", "#9ba0a8"),
    "line": Colour("#e4e1da", "#2d3139"),
    "cell": Colour("#efece5", "#2f353f"),
    "card": Colour("#ffffff", "#1b1e24"),
    "dark": Colour("#1d1f23", "#1d1f23"),
    "prefill": Colour("#c2540a", "#f0924c"),
    "decode": Colour("#0b7a75", "#3cc4b7"),
    "blue": Colour("#77aadd", "#77aadd"),
    "orange": Colour("#ee8866", "#ee8866"),
    "mint": Colour("#44bb99", "#44bb99"),
    "pink": Colour("#ffaabb", "#ffaabb"),
    "olive": Colour("#aaaa00", "#aaaa00"),
    "cyan": Colour("#99ddff", "#99ddff"),
    "rose": Colour("#c58bb8", "#c58bb8"),
    "pear": Colour("#bbcc33", "#bbcc33"),
    "yellow": Colour("#eedd88", "#eedd88"),
    "tan": Colour("#c2a383", "#c2a383"),
    "grey": Colour("#c6c6c6", "#c6c6c6"),
    "busy": Colour("#0072b2", "#56b4e9"),
    "starved": Colour("#f0b429", "#f0c850"),
    "stalled": Colour("#cc79a7", "#d68fb8"),
}


@dataclass(frozen=True)
class Rect:
    """A rectangle; `stroke` is the colour of its edge."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    stroke: str | None = None
    opacity: float = 1.0
    radius: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class Area:
    """Filled polygons of one colour."""

    polygons: tuple[tuple[Point, ...], ...]
    fill: str
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Lines:
    """Lines of one colour and width; `dashes` are lengths of strokes and gaps, `cap` is what their
    ends look like: strokes without length and with round ends are dots."""

    lines: tuple[tuple[Point, ...], ...]
    stroke: str
    width: float = 1.0
    dashes: tuple[float, float] | None = None
    cap: Cap = "butt"
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Circle:
    """A disk with an edge of the same colour."""

    x: float
    y: float
    radius: float
    fill: str
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Text:
    """A line of text whose baseline is at `y`; with `halo` it stands out from what is below it."""

    x: float
    y: float
    text: str
    size: float = 11.5
    anchor: Anchor = "start"
    fill: str = "soft"
    bold: bool = False
    halo: bool = False


Item = Rect | Area | Lines | Circle | Text


@dataclass(frozen=True)
class Scene:
    """A picture of `width` x `height` pixels; later items cover earlier ones."""

    title: str
    width: float
    height: float
    items: tuple[Item, ...]


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in the widest of the usual fonts."""
    return 0.6 * size * len(text)
