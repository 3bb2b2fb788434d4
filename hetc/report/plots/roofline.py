"""Rooflines (Williams et al. 2009): the roofs of both devices, and a dot for every op of a phase.

x is the operational intensity in FLOP/B, y the FLOP/s that the estimate comes to; both logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hetc.report.fold import FoldedOp
from hetc.report.plots.scene import Anchor, Circle, Item, Lines, Point, Scene, Text
from hetc.report.units import amount, duration, percent, significant
from hetc.targets import Target

WIDTH, HEIGHT = 560, 400
_LEGEND = 18  # pixels of a line below the panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 30, 46
_SMALLEST_SHARE = 1e-3  # of the phase's time: what takes less gets no dot
_NEAR = 7.0  # dots nearer than this, in pixels, are one
_LABELS = 6
_LETTER = 6.1  # width of a letter of a label, in pixels


@dataclass(frozen=True)
class Tick:
    """A grid line and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Roof:
    """The roof of one device, with its ridge and the place of its label."""

    role: str
    name: str
    points: tuple[Point, ...]
    ridge_x: float
    ridge_y: float
    label_x: float
    label_y: float
    note: str


@dataclass(frozen=True)
class Dot:
    """One or more ops at one place. `label` is empty where there is no room or no need for it."""

    role: str
    x: float
    y: float
    radius: float
    title: str
    label: str = ""
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: Anchor = "start"


@dataclass(frozen=True)
class Roofline:
    """A panel of `WIDTH` x `HEIGHT` pixels."""

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    roofs: tuple[Roof, ...]
    dots: tuple[Dot, ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class _Scale:
    """Maps decades to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def decades(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**exponent for exponent in range(first, last + 1)]


def roofline(
    title: str, ops: Sequence[FoldedOp], targets: Mapping[str, Target], dtype: str
) -> Scene:
    """The picture of one phase: `ops` folded, `targets` by role; `dtype` is that of the weights."""
    made = panel(title, ops, targets, dtype)
    items = [*_grid(made), *_lines(made), *_dots(made)]
    for number, roof in enumerate(made.roofs):
        y = HEIGHT + _LEGEND * number + 10
        items.append(Circle(_LEFT + 5, y - 4, 5, roof.role))
        items.append(Text(_LEFT + 16, y, f"{roof.name}: {roof.note}"))
    height = HEIGHT + _LEGEND * len(made.roofs) + 6
    return Scene(f"Roofline of {title}", WIDTH, height, tuple(items))


def _grid(made: Roofline) -> Iterator[Item]:
    top, bottom, left, right = made.top, made.bottom, made.left, made.right
    for tick in made.x_ticks:
        yield Lines((((tick.at, top), (tick.at, bottom)),), "line")
        yield Text(tick.at, bottom + 16, tick.label, anchor="middle")
    for tick in made.y_ticks:
        yield Lines((((left, tick.at), (right, tick.at)),), "line")
        yield Text(left - 6, tick.at + 4, tick.label, anchor="end")
    yield Text(left - 6, top - 14, "FLOP/s", anchor="end")
    yield Text((left + right) / 2, HEIGHT - 10, "operational intensity, FLOP/B", anchor="middle")
    yield Text(right, top - 14, made.title, 13, "end", "ink", bold=True)


def _lines(made: Roofline) -> Iterator[Item]:
    for roof in made.roofs:
        ridge = ((roof.ridge_x, roof.ridge_y), (roof.ridge_x, float(made.bottom)))
        yield Lines((ridge,), roof.role, 1, dashes=(2, 4), opacity=0.7)
        yield Lines((roof.points,), roof.role, 2.2, title=f"{roof.name}: {roof.note}")
        yield Text(roof.label_x, roof.label_y, roof.name, 11.5, "end", roof.role, bold=True)


def _dots(made: Roofline) -> Iterator[Item]:
    for dot in made.dots:
        yield Circle(dot.x, dot.y, dot.radius, dot.role, opacity=0.32, title=dot.title)
    for dot in made.dots:
        if dot.label:
            yield Text(dot.label_x, dot.label_y, dot.label, 11, dot.anchor, "ink", halo=True)


def panel(
    title: str, ops: Sequence[FoldedOp], targets: Mapping[str, Target], dtype: str
) -> Roofline:
    """The coordinates of `roofline`."""
    total = sum(op.seconds for op in ops) or 1.0
    # What runs inside a neighbour's kernel moves no bytes of its own and has no place here.
    own = [op for op in ops if op.total_flops and not op.record["fused_into"]]
    shown = [op for op in own if op.seconds / total >= _SMALLEST_SHARE]
    points = {op.name: (op.record["intensity"], op.total_flops / op.seconds) for op in shown}
    ridges = [target.ridge(dtype) for target in targets.values()]
    rates = [target.rate(dtype) for target in targets.values()]
    xs = [*(x for x, _ in points.values()), *ridges]
    ys = [*(y for _, y in points.values()), *rates]
    x = _Scale(min(xs) / 3, max(xs) * 8, _LEFT, WIDTH - _RIGHT)
    y = _Scale(min(ys) / 3, max(ys) * 2, HEIGHT - _BOTTOM, _TOP)
    roofs = _roofs(targets, dtype, x, y)
    dots = _merged([_dot(op, *points[op.name], total, x, y) for op in shown])
    return Roofline(
        title=title,
        x_ticks=tuple(Tick(x(at), significant(at)) for at in x.decades()),
        y_ticks=tuple(Tick(y(at), amount(at, "").strip()) for at in y.decades()),
        roofs=roofs,
        dots=_labelled(dots, roofs),
    )


def _roofs(targets: Mapping[str, Target], dtype: str, x: _Scale, y: _Scale) -> tuple[Roof, ...]:
    roofs: list[Roof] = []
    highest_first = sorted(targets.items(), key=lambda item: -item[1].rate(dtype))
    for place, (role, target) in enumerate(highest_first):
        rate, ridge = target.rate(dtype), target.ridge(dtype)
        start = x.low
        # A slope that begins below the panel enters it at its lower edge.
        start = max(start, y.low / target.bandwidth())
        corners = [(start, start * target.bandwidth()), (ridge, rate), (x.high, rate)]
        level = y(rate)
        roofs.append(
            Roof(
                role=role,
                name=target.name,
                points=tuple((x(a), y(b)) for a, b in corners),
                ridge_x=x(ridge),
                ridge_y=level,
                label_x=WIDTH - _RIGHT - 4,
                # The upper roof's label stands above it, the lower one's below.
                label_y=level - 6 if place == 0 else level + 14,
                note=f"{amount(rate, 'FLOP/s')}, {amount(target.bandwidth(), 'B/s')}, "
                f"ridge at {significant(ridge)} FLOP/B",
            )
        )
    return tuple(roofs)


def _dot(op: FoldedOp, at_x: float, at_y: float, total: float, x: _Scale, y: _Scale) -> Dot:
    share = op.seconds / total
    record = op.record
    title = (
        f"{op.name}: {record['mark']}, {significant(at_x)} FLOP/B, {amount(at_y, 'FLOP/s')}, "
        f"{duration(op.seconds)} ({percent(share)})"
    )
    radius = round(3.5 + 14 * math.sqrt(share), 1)
    return Dot(record["role"], x(at_x), y(at_y), radius, title, _short(op.name))


def _short(name: str) -> str:
    """The end of a name: what the op is, without where."""
    return name.rpartition("/")[2] if "/" in name else name.rpartition(".")[2]


def _merged(dots: Sequence[Dot]) -> list[Dot]:
    """Dots that nearly hide each other as one, with all their names."""
    groups: list[list[Dot]] = []
    for dot in dots:
        for group in groups:
            first = group[0]
            if first.role == dot.role and math.dist((first.x, first.y), (dot.x, dot.y)) < _NEAR:
                group.append(dot)
                break
        else:
            groups.append([dot])
    return [_joined(group) for group in groups]


def _joined(group: Sequence[Dot]) -> Dot:
    names = list(dict.fromkeys(dot.label for dot in group))
    label = ", ".join(names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"])
    area = math.sqrt(sum((dot.radius - 3.5) ** 2 for dot in group))
    first = group[0]
    title = "\n".join(dot.title for dot in group)
    return Dot(first.role, first.x, first.y, round(3.5 + area, 1), title, label)


def _labelled(dots: Sequence[Dot], roofs: Sequence[Roof]) -> tuple[Dot, ...]:
    """The largest dots keep their labels, each where it hides nothing."""
    taken = [(d.x - d.radius, d.y - d.radius, d.x + d.radius, d.y + d.radius) for d in dots]
    for roof in roofs:
        width = _LETTER * len(roof.name)
        taken.append((roof.label_x - width, roof.label_y - 12, roof.label_x, roof.label_y + 4))
    done: list[Dot] = []
    for rank, dot in enumerate(sorted(dots, key=lambda dot: -dot.radius)):
        placed = _place(dot, taken) if rank < _LABELS else None
        done.append(placed or replace(dot, label=""))
    return tuple(done)


def _place(dot: Dot, taken: list[tuple[float, float, float, float]]) -> Dot | None:
    length = _LETTER * len(dot.label)
    sides: tuple[Anchor, ...] = ("start", "end")
    for shift in (4.0, 18.0, -10.0, 32.0, -24.0):
        for anchor in sides:
            gap = dot.radius + 5
            left = dot.x + gap if anchor == "start" else dot.x - gap - length
            box = (left, dot.y + shift - 10, left + length, dot.y + shift + 3)
            inside = box[0] >= _LEFT and box[2] <= WIDTH - _RIGHT
            inside = inside and box[1] >= _TOP and box[3] <= HEIGHT - _BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                label_x = round(dot.x + gap if anchor == "start" else dot.x - gap, 1)
                label_y = round(dot.y + shift, 1)
                return replace(dot, label_x=label_x, label_y=label_y, anchor=anchor)
    return None


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
