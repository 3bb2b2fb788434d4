"""The prefill half on one GPU: memory, launches, and the states' way to the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle, StateSpec
from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.launches import LaunchPlan
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.calls import Caller, Calls, Memory
from hetc.runtime.cuda.device import Device, Release, release_all, releasing
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.graphs import Prepared, Shapes
from hetc.runtime.cuda.kernels import Kernels
from hetc.runtime.cuda.layout import Layout, lay_out
from hetc.runtime.cuda.memory import Growing, pinned_array, random_weights, upload_weights
from hetc.runtime.cuda.plan_file import bad_plan, read_plan
from hetc.runtime.cuda.segments import segments
from hetc.runtime.cuda.sizes import Sizes
from hetc.runtime.cuda.transfer import Block, HostTensor, PinnedPool
from hetc.runtime.cuda.tuned import TunedFile

_F32_BYTES = 4


@dataclass(frozen=True)
class CudaOptions:
    """`device` is the number of the GPU; `graphs`, for how many shapes CUDA graphs are kept, 0 for
    none; `tuned`, whether what `hetc tune` found is used. With `random_weights`, a seed, weights
    are made up instead of read."""

    device: int = 0
    graphs: int = 16
    tuned: bool = True
    random_weights: int | None = None


class Prefill:
    """The launch plan of a bundle, loaded; `close` gives everything back.

    Raises MissingDependency without cuda-bindings, and RuntimeFault: HETC-R050 no GPU, R051 to R053
    what the driver says, R054 to R056 where plan, bundle and GPU do not fit.
    """

    def __init__(
        self,
        bundle: OpenBundle,
        options: CudaOptions | None = None,
        driver: Driver | None = None,
    ) -> None:
        options = options or CudaOptions()
        self.plan = read_plan(bundle)
        self._specs = {spec.name: spec for spec in bundle.contract.states}
        self._closed = False
        self._vocab = bundle.manifest.model.vocab
        _check_states(self.plan, bundle)
        self.device = Device(options.device, driver)
        # How what was taken is given back, the last first.
        self._releases: list[Release] = []
        ready = False
        with releasing(lambda: [] if ready else [self.close]):
            self.kernels = Kernels(self.plan, bundle, self.device)
            self._releases.append(self.kernels.close)
            kept = TunedFile.of(bundle, self.device.info) if options.tuned else None
            if kept is not None:
                self.kernels.use(kept.read(self.kernels.built))
            self._weights, self._arena, self._states, self._inputs, self._mailbox = (
                self._growing(pinned=pinned) for pinned in (False, False, False, False, True)
            )
            self._pool = PinnedPool(self.device)
            self.caller = Caller(self.plan, self.kernels, self.device.driver)
            self._segments = segments(self.plan, bundle.contract)
            self._shapes = Shapes(self.device, self._segments, options.graphs)
            self._releases += (self._pool.close, self._shapes.clear, self.device.synchronize)
            with self.device.current():
                # After it, the states of the last call have left.
                self._left = self.device.driver.event()
                self._releases.append(partial(self.device.return_event, self._left))
                self.kernels.load_chosen()
                self._weights.require(max(self.plan.weight_bytes, 1))
                self._fill_weights(bundle, options.random_weights)
            ready = True

    def run(self, tokens: NDArray[np.int64]) -> tuple[NDArray[np.float32], dict[str, HostTensor]]:
        """Prefill `tokens` [B, S]: logits f32 [B, 1, V] of the last token, and the states.

        States are still on their way when this returns; reading one waits for it. Interrupted or
        failed, it waits for the work under way first.
        """
        device, done = self.device, False
        sizes = Sizes(*map(int, tokens.shape))
        with (
            device.current(),
            releasing(lambda: [] if done or device.driver.lost else [device.synchronize]),
        ):
            prepared = self._prepared(sizes)
            block = self._pool.take(prepared.calls.layout.state_bytes)
            self.send_inputs(prepared.calls, tokens)
            tensors: dict[str, HostTensor] = {}
            for number, segment in enumerate(self._segments):
                self._shapes.run(prepared, number)
                self._hand_off(segment.states, prepared.calls, block, tensors)
            logits = self._read_logits(prepared.calls)
            done = True
        return logits, {name: tensors[name] for name in self._specs}

    def calls(self, sizes: Sizes) -> Calls:
        """All launches for `sizes`, with memory to make them in; in the context."""
        return self._prepare(lay_out(self.plan, sizes))

    def close(self) -> None:
        """Give everything back but pinned memory that states still lie in; a second call does
        nothing."""
        if self._closed:
            return
        with releasing(lambda: [self.device.leave] if self._closed else []):
            if self.device.driver.lost:
                self._closed = True
                return
            with self.device.current():
                self._closed = True
                release_all(self._releases[::-1])

    def _fill_weights(self, bundle: OpenBundle, seed: int | None) -> None:
        weights, base = self.plan.weights, self._weights.address
        if seed is not None:
            made_up = [placed for placed in weights if not placed.data]
            random_weights(made_up, self.device, base, seed)
            weights = tuple(placed for placed in weights if placed.data)
        upload_weights(weights, bundle, self.device, base)

    def _growing(self, *, pinned: bool) -> Growing:
        found = Growing(self.device, pinned=pinned)
        self._releases.append(found.free)
        return found

    def _prepared(self, sizes: Sizes) -> Prepared:
        shape = (sizes.sequences, sizes.longest)
        prepared = self._shapes.get(shape)
        if prepared is None:
            prepared = self._shapes.add(shape, self.calls(sizes))
        self._shapes.begin(prepared)
        return prepared

    def _prepare(self, layout: Layout) -> Calls:
        needs = (
            (self._arena, max(layout.arena_bytes, 1)),
            (self._states, max(layout.state_bytes, 1)),
            (self._inputs, layout.input_bytes),
            (self._mailbox, max(layout.input_bytes, self._logit_bytes(layout))),
        )
        if any(size > held.size for held, size in needs):
            # What is prepared holds addresses that will be another's.
            self._shapes.clear()
        for held, size in needs:
            held.require(size)
        first = self._weights.address
        weights = {placed.name: first + placed.offset for placed in self.plan.weights}
        memory = Memory(self._arena.address, self._states.address, self._inputs.address, weights)
        return self.caller.prepare(layout, memory)

    def send_inputs(self, calls: Calls, tokens: NDArray[np.int64]) -> None:
        """Bring to the GPU what launches read of a call; in the context."""
        layout, driver = calls.layout, self.device.driver
        batch, count = tokens.shape
        numbers = {
            "tokens": tokens.reshape(-1),
            "positions": np.tile(np.arange(count), batch),
            "sequences": np.repeat(np.arange(batch), count),
            "starts": np.arange(batch + 1) * count,
        }
        host = pinned_array(self._mailbox.address, layout.input_bytes)
        for name, span in layout.inputs.items():
            host[span.start : span.start + span.size].view(np.int32)[:] = numbers[name]
        address, size = self._inputs.address, layout.input_bytes
        driver.to_device(address, self._mailbox.address, size, self.device.compute)
        # The states of the call before may still be on their way out of where this one writes.
        driver.wait(self.device.compute, self._left)

    def _hand_off(
        self,
        names: tuple[str, ...],
        calls: Calls,
        block: Block,
        tensors: dict[str, HostTensor],
    ) -> None:
        """Send states that are complete to the host, on the other stream."""
        if not names:
            return
        device, driver = self.device, self.device.driver
        written = device.take_event()
        try:
            driver.record(written, device.compute)
            driver.wait(device.transfer, written)
        finally:
            device.return_event(written)
        arrival = self._pool.arrival(block)
        for name in names:
            span, here = calls.layout.states[name], calls.span(name)
            driver.to_host(block.address + span.start, here.start, span.size, device.transfer)
            spec = self._specs[name]
            shape = _shape(spec, calls.layout.sizes)
            array = block.tensor(span, spec.dtype, shape)
            tensors[name] = HostTensor(array, spec.dtype, arrival)
        arrival.record()
        driver.record(self._left, device.transfer)

    def _read_logits(self, calls: Calls) -> NDArray[np.float32]:
        size, driver = self._logit_bytes(calls.layout), self.device.driver
        source = calls.span(self.plan.logits).start
        driver.to_host(self._mailbox.address, source, size, self.device.compute)
        driver.synchronize(self.device.compute)
        host = pinned_array(self._mailbox.address, size).view(np.float32)
        return host.reshape(-1, 1, self._vocab).copy()

    def _logit_bytes(self, layout: Layout) -> int:
        size = layout.sizes.sequences * self._vocab * _F32_BYTES
        if layout.buffers[self.plan.logits].size < size:
            found = layout.buffers[self.plan.logits].size
            raise bad_plan("logits do not fit", f"{size} bytes", found, self.plan.logits)
        return size


def _shape(spec: StateSpec, sizes: Sizes) -> tuple[int, ...]:
    return tuple(sizes(str(dim), at=spec.name) for dim in spec.shape)


def _check_states(plan: LaunchPlan, bundle: OpenBundle) -> None:
    """The plan makes every state of the contract in its form, windows included."""
    placed = {state.name: state for state in plan.states}
    longest = bundle.contract.max_context
    for spec in bundle.contract.states:
        state = placed.get(spec.name)
        if state is None or state.element != spec.dtype:
            raise _other_state(spec, f"{spec.dtype}", state.element if state else "no such state")
        for sizes in (Sizes(1, 1), Sizes(3, 2), Sizes(2, max(longest, 1))):
            expected = math.prod(_shape(spec, sizes)) * BY_NAME[spec.dtype].itemsize
            found = sizes(state.bytes, at=spec.name)
            if found != expected:
                raise _other_state(spec, f"{expected} bytes of {sizes}", f"{found} bytes")


def _other_state(spec: StateSpec, expected: str, found: str) -> RuntimeFault:
    window = "" if spec.keep is None else f", of which the last {spec.keep} rows are kept"
    return RuntimeFault(
        "HETC-R056",
        "the launch plan does not make a state that the hand-off contract asks for",
        at=f"{spec.name} ({spec.kind}{window})",
        expected=expected,
        found=found,
        do="compile the model again; a CPU executor runs the bundle as it is",
    )
