"""When stages, memories and the link work: one iteration of the main loop, and a whole token."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.timeline import STATES, Lane, Timeline, Work
from hetc.report.plots.lanes import Axis, bars, shares
from hetc.report.plots.scene import Item, Lines, Rect, Scene, Text, text_width
from hetc.report.plots.stages import Shown, shown_stages
from hetc.report.tables import shortened
from hetc.report.units import duration

_WIDTH, _NAMES, _LEFT, _RIGHT = 1232.0, 36.0, 262.0, 1072.0
_ROW, _BAR = 21.0, 15.0
_HEAD, _FOOT, _TOP = 46.0, 34.0, 78.0
_SHARES = (1116.0, 1166.0, 1216.0)  # right ends of the columns of shares
_SHOWN = 5e-4  # of a lane's time: what is less is no share
_LABEL = 10.0


@dataclass(frozen=True)
class _Panel:
    """A stretch of time and the lanes that do something in it."""

    title: str
    begin: float
    end: float
    lanes: tuple[Lane, ...]
    labelled: bool

    @property
    def height(self) -> float:
        return _HEAD + len(self.lanes) * _ROW + _FOOT


def gantt(plan: Plan, told: Timeline) -> Scene:
    """The picture of a simulated token of `plan`."""
    drawing = _Drawing(plan, told)
    items: list[Item] = [*drawing.titles()]
    top = _TOP
    for panel in drawing.panels():
        items += drawing.panel(panel, top)
        top += panel.height
    return Scene(f"A token of {plan.target.name} in time", _WIDTH, top, tuple(items))


class _Drawing:
    def __init__(self, plan: Plan, told: Timeline) -> None:
        self.plan, self.told = plan, told
        self.stages: Mapping[str, Shown] = shown_stages(plan)
        streams = [stream for block in plan.blocks for stream in block.streams]
        self.stage_of = {stream.id: stream.stage for stream in streams}

    def seconds(self, cycles: float) -> float:
        return cycles / self.told.clock_hz

    def titles(self) -> Iterator[Item]:
        estimate = self.plan.estimate
        title = f"One token on {self.plan.target.name}: {duration(self.seconds(self.told.cycles))}"
        yield Text(16, 24, title, size=17, fill="ink", bold=True)
        facts = ["simulated, not calibrated"]
        if estimate is not None:
            facts.append(f"MBU {estimate.mbu:.0%} of {estimate.mbu_bound:.0%} that memory sustains")
            facts.append(f"bound by {estimate.bottleneck}")
        yield Text(16, 45, " · ".join(facts), size=12.5)
        x = 16.0
        keys = ("working", "waits for memory", "waits for another stage or the link")
        for state, text in zip(STATES, keys, strict=True):
            yield Rect(x, 57, 12, 12, fill=state)
            yield Text(x + 18, 67, f"{state}: {text}", 11.5)
            x += 26 + text_width(f"{state}: {text}", 11.5)
        yield Text(x, 67, "Bars are as high as their share of the time.", 11.5)

    def panels(self) -> Iterator[_Panel]:
        iteration, cycles = self.told.iteration, self.told.cycles
        if iteration is not None:
            (block,) = (block for block in self.plan.blocks if block.id == iteration.block)
            length = duration(self.seconds(iteration.end - iteration.begin))
            title = f"{block.graph}, iteration {iteration.number + 1} of {block.repeat}: {length}"
            yield self._panel(title, iteration.begin, iteration.end, labelled=True)
        title = f"The whole token: {duration(self.seconds(cycles))}"
        yield self._panel(title, 0.0, cycles, labelled=iteration is None)

    def _panel(self, title: str, begin: float, end: float, *, labelled: bool) -> _Panel:
        lanes = tuple(lane for lane in self.told.lanes if lane.within(begin, end))
        return _Panel(title, begin, end, lanes, labelled)

    def panel(self, panel: _Panel, top: float) -> Iterator[Item]:
        axis = Axis(panel.begin, panel.end, _LEFT, _RIGHT)
        yield Text(16, top + 30, panel.title, size=13.5, fill="ink", bold=True)
        for state, right in zip(STATES, _SHARES, strict=True):
            yield Text(right, top + 30, state, 10.5, "end")
        first = top + _HEAD
        bottom = first + len(panel.lanes) * _ROW
        yield from self._grid(panel, axis, first - 4, bottom)
        for row, lane in enumerate(panel.lanes):
            yield from self._lane(lane, panel, axis, first + row * _ROW)

    def _grid(self, panel: _Panel, axis: Axis, top: float, bottom: float) -> Iterator[Item]:
        span = self.seconds(panel.end - panel.begin)
        step = _step(span)
        for number in range(int(span / step + 1e-9) + 1):
            x = axis(panel.begin + number * step * self.told.clock_hz)
            yield Lines((((x, top), (x, bottom)),), "line")
            yield Text(x, bottom + 15, _tick(number * step, step), 10.5, "middle")

    def _lane(self, lane: Lane, panel: _Panel, axis: Axis, top: float) -> Iterator[Item]:
        middle = top + _BAR / 2 + 4
        shown = self.stages.get(lane.name)
        if shown is not None:
            yield Text(_NAMES - 8, middle, str(shown.number), 11.5, "end", "ink", bold=True)
        yield Text(_NAMES, middle, self._name(lane), 11.5, fill="ink")
        yield Rect(_LEFT, top, _RIGHT - _LEFT, _BAR, fill="cell", opacity=0.55)
        yield from bars(lane, axis, top, _BAR)
        if panel.labelled:
            yield from self._labels(lane.work, axis, top)
        for share, right in zip(shares(lane, axis), _SHARES, strict=True):
            yield Text(right, middle, _share(share), 10.5, "end")

    def _name(self, lane: Lane) -> str:
        if lane.kind == "memory":
            return f"{lane.name.upper()} queue"
        shown = self.stages.get(lane.name)
        return lane.name if shown is None else shortened(shown.stage.name, 31)

    def _labels(self, work: Sequence[Work], axis: Axis, top: float) -> Iterator[Item]:
        """Whose data a memory or the link moves, where there is room to say it; a line between."""
        for what, left, right in _together(work, axis):
            shown = self.stages[self.stage_of.get(what, what)]
            if left > axis.left:
                yield Lines((((left, top), (left, top + _BAR)),), "card", 1)
            number = str(shown.number)
            texts = (f"{number} {shown.stage.name}", number)
            fits = (text for text in texts if text_width(text, _LABEL) + 6 <= right - left)
            text = next(fits, "")
            if text:
                yield Text((left + right) / 2, top + 11.2, text, _LABEL, "middle", "card")


def _share(part: float) -> str:
    """A share with three digits, or a dot for none."""
    return "·" if part < _SHOWN else f"{part:.1%}" if part < 0.9995 else "100%"


def _together(work: Sequence[Work], axis: Axis) -> Iterator[tuple[str, float, float]]:
    """What is in sight, with its pixels; what follows on itself as one."""
    inside = (item for item in work if item.begin < axis.end and item.end > axis.begin)
    for what, run in itertools.groupby(inside, key=lambda item: item.what):
        items = list(run)
        yield what, axis(items[0].begin), axis(items[-1].end)


def _step(span: float) -> float:
    """A round step of which 5 to 12 fill the axis."""
    power = 10.0 ** math.floor(math.log10(span / 6))
    return next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 12)


def _tick(at: float, step: float) -> str:
    """A time in the unit of its step, without a remainder of rounding."""
    return duration(round(at / step) * step) if at else "0"
