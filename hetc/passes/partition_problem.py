"""The assignment problem behind every cut, as plain numbers: nodes, nets, stores, devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Net:
    """A tensor that node `producer` makes and `consumers` read: paid once for every other device
    on which a consumer is.
    """

    producer: int
    consumers: tuple[int, ...]


@dataclass(frozen=True)
class Store:
    """Something kept in the memory of every device on which one of `users` is: a weight, a
    state."""

    users: tuple[int, ...]


@dataclass(frozen=True)
class Setup:
    """A fixed cost of every device on which one of `users` is: starting a phase there."""

    users: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """Nodes to put on D devices so that the sum of node and transfer seconds is least.

    `seconds [N, D]` is what a node takes on a device over the workload, `allowed [N, D]` where it
    may be. A crossing of net m from device a to b takes `transfers[m] * latency[a, b] + nbytes[m] *
    seconds_per_byte[a, b]`. Setup s takes `setup_seconds[s, d]` on device d. Device d may hold
    `capacity[d]` bytes of `store_bytes`.
    """

    seconds: Floats
    allowed: Bools
    nets: tuple[Net, ...]
    nbytes: Floats
    transfers: Floats
    latency: Floats
    seconds_per_byte: Floats
    setups: tuple[Setup, ...] = ()
    setup_seconds: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    stores: tuple[Store, ...] = ()
    store_bytes: Floats = field(default_factory=lambda: np.zeros(0))
    capacity: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def devices(self) -> int:
        return int(self.seconds.shape[1])

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints, Ints]:
        return _flat([(net.producer, net.consumers) for net in self.nets])

    @cached_property
    def _starts(self) -> tuple[Ints, Ints, Ints]:
        return _flat([(0, setup.users) for setup in self.setups])

    @cached_property
    def _uses(self) -> tuple[Ints, Ints, Ints]:
        return _flat([(0, store.users) for store in self.stores])

    def crossings(self, assignment: Ints) -> tuple[Ints, Ints, Ints]:
        """Net, source and destination device of every transfer, each (net, destination) once."""
        net, producer, consumer = self._pairs
        source, destination = assignment[producer], assignment[consumer]
        crosses = source != destination
        keys = np.unique(net[crosses] * self.devices + destination[crosses])
        paid = keys // self.devices
        owner = np.array([item.producer for item in self.nets], dtype=np.int64)
        return paid, assignment[owner[paid]], keys % self.devices

    def crossing_seconds(self, net: Ints, source: Ints, destination: Ints) -> Floats:
        """Seconds of transfers over the whole workload."""
        wire = self.nbytes[net] * self.seconds_per_byte[source, destination]
        total: Floats = wire + self.transfers[net] * self.latency[source, destination]
        return total

    def total(self, assignment: Ints) -> float:
        """Seconds over the workload; infinite where a node is where it may not be."""
        rows = np.arange(len(assignment))
        if not bool(self.allowed[rows, assignment].all()):
            return float("inf")
        work = float(self.seconds[rows, assignment].sum())
        moved = float(self.crossing_seconds(*self.crossings(assignment)).sum())
        return work + moved + float(self.setup_total(assignment).sum())

    def setup_total(self, assignment: Ints) -> Floats:
        """Seconds of every setup."""
        setup, _, user = self._starts
        keys = np.unique(setup * self.devices + assignment[user])
        number, device = keys // self.devices, keys % self.devices
        weights = self.setup_seconds[number, device]
        return np.bincount(number, weights, len(self.setups)).astype(np.float64)

    def held(self, assignment: Ints) -> Floats:
        """Bytes on every device; what several users on one device share is there once."""
        store, _, user = self._uses
        keys = np.unique(store * self.devices + assignment[user])
        weights = self.store_bytes[keys // self.devices]
        return np.bincount(keys % self.devices, weights, self.devices).astype(np.float64)

    def fits(self, assignment: Ints) -> bool:
        """Whether every device can hold what is put on it."""
        return not len(self.capacity) or bool((self.held(assignment) <= self.capacity).all())

    def uniform(self, device: int) -> Ints:
        """Everything on one device."""
        return np.full(len(self.seconds), device, dtype=np.int64)

    def grouped(self, group: Ints) -> Problem:
        """The problem in which all nodes of one group are on one device; `group [N]` counts from
        0."""
        count = int(group.max(initial=-1)) + 1
        seconds = np.zeros((count, self.devices))
        np.add.at(seconds, group, self.seconds)
        allowed = np.ones((count, self.devices), dtype=bool)
        np.logical_and.at(allowed, group, self.allowed)
        nets = [
            Net(int(group[net.producer]), tuple(dict.fromkeys(group[list(net.consumers)].tolist())))
            for net in self.nets
        ]

        def users(item: Store | Setup) -> tuple[int, ...]:
            return tuple(dict.fromkeys(group[list(item.users)].tolist()))

        return replace(
            self,
            seconds=seconds,
            allowed=allowed,
            nets=tuple(nets),
            setups=tuple(Setup(users(setup)) for setup in self.setups),
            stores=tuple(Store(users(store)) for store in self.stores),
        )


def _flat(groups: Sequence[tuple[int, tuple[int, ...]]]) -> tuple[Ints, Ints, Ints]:
    """(group number, its head, one member) for every member of every group."""
    number = [i for i, (_, members) in enumerate(groups) for _ in members]
    head = [first for first, members in groups for _ in members]
    member = [item for _, members in groups for item in members]
    return (
        np.array(number, dtype=np.int64),
        np.array(head, dtype=np.int64),
        np.array(member, dtype=np.int64),
    )
