"""One GPU: what it is, its context, two streams, and events to use again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from hetc.errors import RuntimeFault
from hetc.runtime.cuda.driver import Driver, open_driver

Release = Callable[[], None]


@dataclass(frozen=True)
class DeviceInfo:
    """A GPU: its name, compute capability as `sm_90`, the CUDA version of the driver, bytes of its
    memory, and the most bytes of shared memory that a block may ask for."""

    name: str
    arch: str
    driver: str
    memory_bytes: int
    shared_bytes: int


def device_info(ordinal: int = 0, driver: Driver | None = None) -> DeviceInfo:
    """The GPU number `ordinal`; takes no context.

    Raises MissingDependency without cuda-bindings, RuntimeFault HETC-R050 where there is none.
    """
    api = driver or open_driver()
    api.start()
    count = api.device_count()
    if not 0 <= ordinal < count:
        raise RuntimeFault(
            "HETC-R050",
            "there is no such GPU",
            expected=f"a number below {count}" if count else "a GPU",
            found=ordinal if count else "none",
            do="see CUDA_VISIBLE_DEVICES, or run the bundle on a CPU executor",
        )
    device = api.device(ordinal)
    major = api.device_attribute("COMPUTE_CAPABILITY_MAJOR", device)
    minor = api.device_attribute("COMPUTE_CAPABILITY_MINOR", device)
    return DeviceInfo(
        api.device_name(device),
        f"sm_{major}{minor}",
        api.version,
        api.device_memory(device),
        api.device_attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", device),
    )


class Device:
    """A GPU in use. `compute` and `transfer` are its streams.

    The context stays until `close` and until who else took part with `join` has left: pinned memory
    that a caller still reads lives in it.
    """

    def __init__(self, ordinal: int = 0, driver: Driver | None = None) -> None:
        self.driver = driver or open_driver()
        self.info = device_info(ordinal, self.driver)
        self._handle = self.driver.device(ordinal)
        self._context = self.driver.retain_context(self._handle)
        self._members = 1
        self._events: list[int] = []
        self._streams: list[int] = []
        failed = True
        with releasing(lambda: [self.leave] if failed else []):
            with self.current():
                self._streams.append(self.driver.stream())
                self._streams.append(self.driver.stream())
            failed = False
        self.compute, self.transfer = self._streams

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within, the calling thread uses this GPU; what it used before is put back afterwards."""
        self.driver.push_context(self._context)
        with releasing(lambda: [] if self.driver.lost else [self.driver.pop_context]):
            yield

    def take_event(self) -> int:
        """An event without timing, a used one if there is one."""
        return self._events.pop() if self._events else self.driver.event()

    def return_event(self, event: int) -> None:
        """Keep it for the next who needs one; it may be recorded anew before it has happened."""
        self._events.append(event)

    def synchronize(self) -> None:
        """Wait for all work of both streams; in the context."""
        for stream in self._streams:
            self.driver.synchronize(stream)

    def join(self) -> None:
        """Keep the context until a call of `leave`."""
        self._members += 1

    def leave(self) -> None:
        """The last to leave gives back streams, events and the context."""
        self._members -= 1
        if self._members or self.driver.lost:
            return
        with (
            releasing(lambda: [partial(self.driver.release_context, self._handle)]),
            self.current(),
        ):
            destroy_event, destroy_stream = self.driver.destroy_event, self.driver.destroy_stream
            release_all(
                [
                    *(partial(destroy_event, event) for event in self._events),
                    *(partial(destroy_stream, stream) for stream in self._streams),
                ]
            )


@contextmanager
def releasing(releases: Callable[[], Sequence[Release]]) -> Iterator[None]:
    """At the end, call what `releases` then gives: all of it, whichever fails.

    An error of the block stays the error, and those of releases become notes of it.
    """
    try:
        yield
    except BaseException as error:
        try:
            release_all(releases())
        except RuntimeFault as more:
            error.add_note(f"while giving back what was in use: {more.what} ({more.found})")
        raise
    release_all(releases())


def release_all(releases: Sequence[Release]) -> None:
    """Call every one; raises the first error, after all were tried."""
    first: BaseException | None = None
    for release in releases:
        try:
            release()
        except (RuntimeFault, KeyboardInterrupt) as error:
            first = first or error
    if first is not None:
        raise first
