"""A scene as SVG: small, the same bytes every time, light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from hetc.report.plots.scene import PALETTE, Area, Circle, Item, Point, Rect, Scene, Text

_FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif'


def svg(scene: Scene, *, alone: bool = True) -> str:
    """The scene as an `svg` element; `alone` as a file of its own, with the rules of `style`.

    Colours are classes, not variables, which few programs but browsers know.
    """
    size = f'viewBox="0 0 {_number(scene.width)} {_number(scene.height)}"'
    body = "\n".join(map(_item, scene.items))
    named = f'role="img" aria-label="{escape(scene.title)}"'
    if not alone:
        return f'<svg class="plot" {size} {named}>\n{body}\n</svg>'
    given = f'width="{_number(scene.width)}" height="{_number(scene.height)}"'
    paper = _item(Rect(0, 0, scene.width, scene.height, fill="card"))
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" {size} {given} {named}>\n'
        f"<style>\n{style()}</style>\n{paper}\n{body}\n</svg>\n"
    )


def style() -> str:
    """The rules for the classes of all scenes: `f-name` fills, `s-name` strokes."""
    light = "".join(_rules(name, colour.light) for name, colour in PALETTE.items())
    dark = "".join(
        _rules(name, colour.dark) for name, colour in PALETTE.items() if colour.dark != colour.light
    )
    return (
        f".plot text {{ font-family: {_FONT}; }}\n"
        ".plot .b { font-weight: 600; }\n"
        ".plot .h { paint-order: stroke; stroke-width: 3px; stroke-linejoin: round; }\n"
        f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
    )


def _rules(name: str, colour: str) -> str:
    return f".plot .f-{name} {{ fill: {colour}; }} .plot .s-{name} {{ stroke: {colour}; }}\n"


def _item(item: Item) -> str:
    if isinstance(item, Text):
        return _text(item)
    if isinstance(item, Rect):
        facts = f'x="{_number(item.x)}" y="{_number(item.y)}" '
        facts += f'width="{_number(item.width)}" height="{_number(item.height)}"'
        facts += f' rx="{_number(item.radius)}"' if item.radius else ""
        return _element("rect", facts, item.fill, item.stroke, item.opacity, item.title)
    if isinstance(item, Circle):
        facts = f'cx="{_number(item.x)}" cy="{_number(item.y)}" r="{_number(item.radius)}"'
        opacity = f' fill-opacity="{_number(item.opacity)}"' if item.opacity != 1 else ""
        return _element("circle", facts + opacity, item.fill, item.fill, 1.0, item.title)
    if isinstance(item, Area):
        path = "".join(f"{_path(polygon)}z" for polygon in item.polygons)
        return _element("path", f'd="{path}"', item.fill, None, item.opacity, item.title)
    path = "".join(_path(line) for line in item.lines)
    facts = f'd="{path}" stroke-width="{_number(item.width)}" stroke-linejoin="round"'
    if item.cap != "butt":
        facts += f' stroke-linecap="{item.cap}"'
    if item.dashes is not None:
        facts += f' stroke-dasharray="{" ".join(map(_number, item.dashes))}"'
    return _element("path", facts, None, item.stroke, item.opacity, item.title)


def _element(
    tag: str, facts: str, fill: str | None, stroke: str | None, opacity: float, title: str
) -> str:
    classes = [f"f-{fill}"] if fill is not None else []
    classes += [f"s-{stroke}"] if stroke is not None else []
    facts += "" if fill is not None else ' fill="none"'
    facts += f' opacity="{_number(opacity)}"' if opacity != 1 else ""
    start = f'<{tag} class="{" ".join(classes)}" {facts}'
    return f"{start}><title>{escape(title)}</title></{tag}>" if title else f"{start}/>"


def _text(item: Text) -> str:
    classes = f"f-{item.fill}{' b' * item.bold}{' h s-card' * item.halo}"
    facts = f'x="{_number(item.x)}" y="{_number(item.y)}" font-size="{_number(item.size)}"'
    facts += f' text-anchor="{item.anchor}"' if item.anchor != "start" else ""
    return f'<text class="{classes}" {facts}>{escape(item.text)}</text>'


def _path(points: Iterable[Point]) -> str:
    """A path from point to point, the steps along an axis in their short form."""
    found: list[str] = []
    last: Point | None = None
    for x, y in ((round(x, 1), round(y, 1)) for x, y in points):
        if last is None:
            found.append(f"M{_number(x)} {_number(y)}")
        elif y == last[1]:
            found.append(f"H{_number(x)}" if x != last[0] else "")
        else:
            found.append(f"V{_number(y)}" if x == last[0] else f"L{_number(x)} {_number(y)}")
        last = (x, y)
    return "".join(found)


def _number(value: float) -> str:
    """At most two decimals, and none that are zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
