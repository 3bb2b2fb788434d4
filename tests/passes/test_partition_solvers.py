"""Every solver against trying everything, on random two-phase DAGs."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

from hetc.passes.partition_capacity import solve_two
from hetc.passes.partition_many import partition_many
from hetc.passes.partition_mincut import SINK, SOURCE, cut_network
from hetc.passes.partition_moves import moves
from hetc.passes.partition_problem import Net, Problem, Setup
from tests.passes.random_problem import best, problems

EXACT = 1e-9


@settings(max_examples=60)
@given(problems())
def test_the_cut_is_the_best_of_all(problem: Problem) -> None:
    assignment, seconds = cut_network(problem).solve(problem)
    assert seconds == pytest.approx(best(problem)[1], rel=EXACT)
    assert problem.total(assignment) == seconds


@settings(max_examples=2)
@given(problems(most=12))
def test_also_with_twelve_ops(problem: Problem) -> None:
    seconds = cut_network(problem).solve(problem)[1]
    assert seconds == pytest.approx(best(problem)[1], rel=EXACT)


@settings(max_examples=40)
@given(problems(most=40))
def test_the_flow_agrees_with_networkx(problem: Problem) -> None:
    # The same cut by another road: one networkx graph built from the definition.
    graph = nx.DiGraph()
    for node, (first, second) in enumerate(problem.seconds.tolist()):
        stays, leaves = problem.allowed[node].tolist()
        graph.add_edge("s", node, **({"capacity": second} if leaves else {}))
        graph.add_edge(node, "t", **({"capacity": first} if stays else {}))
    every = np.arange(len(problem.nets))
    for source in (0, 1):
        ends = np.full_like(every, source), np.full_like(every, 1 - source)
        costs = problem.crossing_seconds(every, *ends).tolist()
        for number, (net, cost) in enumerate(zip(problem.nets, costs, strict=True)):
            gadget = ("net", number, source)
            arcs = [(net.producer, gadget)] if source == 0 else [(gadget, net.producer)]
            graph.add_edge(*arcs[0], capacity=cost)
            for reader in net.consumers:
                graph.add_edge(*((gadget, reader) if source == 0 else (reader, gadget)))
    for number, setup in enumerate(problem.setups):
        here, there = ("setup", number, 0), ("setup", number, 1)
        graph.add_edge(here, "t", capacity=problem.setup_seconds[number, 0])
        graph.add_edge("s", there, capacity=problem.setup_seconds[number, 1])
        for user in setup.users:
            graph.add_edge(user, here)
            graph.add_edge(there, user)
    # networkx rounds; ours adds up the chosen assignment.
    assert cut_network(problem).solve(problem)[1] == pytest.approx(
        nx.minimum_cut_value(graph, "s", "t"), rel=1e-7
    )


@settings(max_examples=80)
@given(problems(with_memory=True, most=7))
def test_small_problems_with_memories_are_solved_exactly(problem: Problem) -> None:
    assignment, seconds = best(problem)
    found = solve_two(problem)
    assert (found.assignment is None) == (assignment is None)
    if assignment is not None and found.assignment is not None:
        assert found.seconds == pytest.approx(seconds, rel=EXACT)
        assert problem.fits(found.assignment)
        assert found.gap <= EXACT


@settings(max_examples=25)
@given(problems(with_memory=True, most=11))
def test_the_bound_holds_and_what_is_found_fits(problem: Problem) -> None:
    assignment, seconds = best(problem) if len(problem.seconds) <= 10 else (None, float("nan"))
    found = solve_two(problem)
    if found.assignment is not None:
        assert problem.fits(found.assignment)
        assert problem.total(found.assignment) == pytest.approx(found.seconds)
        assert found.lower_bound <= found.seconds * (1 + EXACT)
        assert 0 <= found.gap <= 1
    if assignment is not None:
        assert found.lower_bound <= seconds * (1 + EXACT), "no assignment beats the bound"


@settings(max_examples=25)
@given(problems(most=5, devices=3, with_memory=True))
def test_three_devices_by_mixed_integer_programming(problem: Problem) -> None:
    assignment, seconds = best(problem)
    found = partition_many(problem)
    assert (found.assignment is None) == (assignment is None)
    if found.assignment is not None:
        assert found.seconds == pytest.approx(seconds, rel=1e-6)
        assert problem.fits(found.assignment)
        assert found.gap <= 1e-6


@settings(max_examples=40)
@given(problems(with_memory=True, most=9))
def test_moves_are_differences_of_totals(problem: Problem) -> None:
    free = replace(problem, allowed=np.ones_like(problem.allowed))
    nodes = cut_network(problem).solve(problem)[0]
    for node, move in enumerate(moves(problem, nodes)):
        moved = nodes.copy()
        moved[node] = 1 - moved[node]
        assert move.delta == pytest.approx(free.total(moved) - free.total(nodes), abs=1e-9)
        assert move.allowed == bool(problem.allowed[node, moved[node]])
        there = int(moved[node])
        assert move.fits == (problem.held(moved)[there] <= problem.capacity[there])


@settings(max_examples=40)
@given(problems(most=10))
def test_a_grouped_problem_is_the_same_problem(problem: Problem) -> None:
    group = np.arange(len(problem.seconds)) // 2
    together = problem.grouped(group)
    assert len(together.seconds) == group[-1] + 1
    for choice in (np.zeros, np.ones):
        assignment = choice(len(together.seconds), dtype=np.int64)
        assignment[0] = 1
        assert together.total(assignment) == pytest.approx(problem.total(assignment[group]))


def two_nodes(**changes: object) -> Problem:
    made = Problem(
        seconds=np.array([[1.0, 5.0], [5.0, 1.0]]),
        allowed=np.ones((2, 2), dtype=bool),
        nets=(Net(0, (1, 1)),),
        nbytes=np.array([3.0]),
        transfers=np.array([1.0]),
        latency=np.array([[0.0, 0.5], [0.5, 0.0]]),
        seconds_per_byte=np.array([[0.0, 1.0], [1.0, 0.0]]),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_tensor_is_paid_once_for_a_device() -> None:
    made = two_nodes()
    split = np.array([0, 1])
    assert made.total(split) == 1 + 1 + 0.5 + 3
    assert cut_network(made).solve(made)[1] == 5.5
    dear = two_nodes(nbytes=np.array([3.6]))
    assert cut_network(dear).solve(dear)[1] == 6.0, "6.1 split, 6 on one device"


def test_a_setup_is_paid_on_every_device_that_is_used() -> None:
    made = two_nodes(setups=(Setup((0, 1)),), setup_seconds=np.array([[0.1, 0.2]]))
    assert made.total(np.array([0, 1])) == pytest.approx(5.8)
    assert made.total(np.array([0, 0])) == pytest.approx(6.1)
    assert cut_network(made).solve(made)[1] == pytest.approx(5.8)


def test_a_zero_problem_has_a_solution() -> None:
    made = two_nodes(seconds=np.zeros((2, 2)), nbytes=np.zeros(1), transfers=np.zeros(1))
    assert cut_network(made).solve(made)[1] == 0.0
    assert (SOURCE, SINK) == (0, 1)
