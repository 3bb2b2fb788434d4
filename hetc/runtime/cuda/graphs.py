"""CUDA graphs of the shapes that come again.

A graph holds addresses, grids and numbers, so it is right for one number of sequences and one
length alone. Padding prompts up to a few lengths would need fewer graphs, but its rows would be
written into the states, which lie without gaps. So every shape has its own graphs, one a segment
(between segments, states leave on another stream): made when a shape comes for the second time,
kept for the shapes that were used last, and dropped when memory moves. Any other call makes its
launches one by one, and so does every call where a graph cannot be made.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from functools import partial

from hetc.errors import Reason, RuntimeFault
from hetc.runtime.cuda.calls import Calls
from hetc.runtime.cuda.device import Device, Release, release_all, releasing
from hetc.runtime.cuda.segments import Segment


class Prepared:
    """The calls of one shape, how often they were made, and a graph for each segment or none."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.uses = 0
        self.graphs: tuple[int, ...] = ()


class Shapes:
    """Prepared calls by shape, the `most` that were used last."""

    def __init__(self, device: Device, segments: tuple[Segment, ...], most: int) -> None:
        self._device = device
        self._segments = segments
        self._most = most
        self._held: OrderedDict[tuple[int, int], Prepared] = OrderedDict()
        self._captures = True

    def get(self, shape: tuple[int, int]) -> Prepared | None:
        """What is prepared for (sequences, longest)."""
        found = self._held.get(shape)
        if found is not None:
            self._held.move_to_end(shape)
        return found

    def add(self, shape: tuple[int, int], calls: Calls) -> Prepared:
        """Keep `calls`; in the context, when no work is under way."""
        self._held[shape] = added = Prepared(calls)
        while len(self._held) > max(self._most, 1):
            self._drop(self._held.popitem(last=False)[1])
        return added

    def begin(self, prepared: Prepared) -> None:
        """One more call of a shape: its graphs are made when it is the second."""
        prepared.uses += 1
        if prepared.uses != 2 or not self._most or not self._captures:
            return
        made: list[int] = []
        whole = False
        try:
            with releasing(lambda: [] if whole else self._destroy(made)):
                for segment in self._segments:
                    self._capture(prepared.calls, segment, made)
                whole = True
        except RuntimeFault as error:
            if self._device.driver.lost:
                raise
            self._captures = False
            reason = Reason("HETC-R059", f"no CUDA graphs are used: {error.what} ({error.found})")
            warnings.warn(str(reason), RuntimeWarning, stacklevel=2)
            return
        prepared.graphs = tuple(made)

    def run(self, prepared: Prepared, number: int) -> None:
        """Do what the segment `number` is, on the compute stream."""
        driver, stream = self._device.driver, self._device.compute
        if prepared.graphs:
            driver.launch_graph(prepared.graphs[number], stream)
        else:
            segment = self._segments[number]
            prepared.calls.make(segment.first, segment.last, driver, stream)

    def clear(self) -> None:
        """Forget everything; in the context, when no work is under way."""
        held, self._held = self._held, OrderedDict()
        release_all([partial(self._drop, prepared) for prepared in held.values()])

    def _capture(self, calls: Calls, segment: Segment, made: list[int]) -> None:
        driver, stream = self._device.driver, self._device.compute
        driver.begin_capture(stream)
        ended = False

        def abandon() -> None:
            driver.destroy_graph(driver.end_capture(stream))

        with releasing(lambda: [] if ended else [abandon]):
            calls.make(segment.first, segment.last, driver, stream)
            graph = driver.end_capture(stream)
            ended = True
        with releasing(lambda: [partial(driver.destroy_graph, graph)]):
            made.append(driver.instantiate(graph))

    def _drop(self, prepared: Prepared) -> None:
        graphs, prepared.graphs = prepared.graphs, ()
        release_all(self._destroy(graphs))

    def _destroy(self, graphs: tuple[int, ...] | list[int]) -> list[Release]:
        return [partial(self._device.driver.destroy_instance, graph) for graph in graphs]
