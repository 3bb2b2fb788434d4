"""Llama-3.1-8B on eight sockets: the rows of reference/spatial-planner.md, section 2.

Its stages' rates and latencies are not all given there, so the rows agree to 1.5 %.
"""

from __future__ import annotations

import pytest

from hetc.backends.dataflow.simulate import simulate
from tests.backends.dataflow.plans import Decoder, decoder
from tests.backends.dataflow.simulate.sn40l import IDEAL, SN40L

ROWS = {
    "everything on": (Decoder(), IDEAL, 1080.0),
    "no token prefetch": (Decoder(token_prefetch=False), IDEAL, 1092.0),
    "no layer prefetch": (Decoder(layer_prefetch=False), IDEAL, 1148.0),
    "no overlap either": (Decoder(layer_prefetch=False, overlap=False), IDEAL, 1161.0),
    "5 us a layer": (Decoder(layer_prefetch=False, launch_us=5.0), IDEAL, 1308.0),
    "15 us a layer": (Decoder(layer_prefetch=False, launch_us=15.0), IDEAL, 1628.0),
    "efficiency 0.85": (Decoder(), SN40L, 1270.0),
    "0.85, no layer prefetch": (Decoder(layer_prefetch=False), SN40L, 1340.0),
    "0.85, 5 us, peers 3 us": (
        Decoder(layer_prefetch=False, launch_us=5.0, peer_us=3.0),
        SN40L,
        1568.0,
    ),
    "buffers of a tenth": (Decoder(depth=0.1), IDEAL, 1080 / 0.73),
    "buffers of a half": (Decoder(depth=0.5), IDEAL, 1080 / 0.95),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_rows_of_the_experiment(row: str) -> None:
    shape, speeds, expected = ROWS[row]
    assert simulate(decoder(shape), speeds).tpot_us == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize("row", [row for row in ROWS if "buffers" not in row])
def test_the_closed_form_is_near_where_buffers_are_large(row: str) -> None:
    shape, speeds, _ = ROWS[row]
    result = simulate(decoder(shape), speeds)
    assert abs(result.analytic_difference) < 0.005
    analytic = simulate(decoder(shape), speeds, mode="analytic")
    assert analytic.tpot_us == pytest.approx(result.analytic_us)


def test_the_closed_form_does_not_see_small_buffers() -> None:
    assert simulate(decoder(Decoder(depth=0.1)), IDEAL).analytic_difference < -0.2


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (Decoder(), "hbm"),
        (Decoder(depth=0.05), "buffers"),
        (Decoder(layer_prefetch=False, launch_us=15.0), "order"),
        (Decoder(peer_us=40.0), "dependences"),
    ],
)
def test_the_bottleneck_has_a_name(shape: Decoder, name: str) -> None:
    assert simulate(decoder(shape), SN40L).bottleneck.name == name


def test_state_is_read_with_the_weights() -> None:
    short, long = (simulate(decoder(Decoder(past=past)), SN40L) for past in (4096, 8192))
    assert long.bytes_read - short.bytes_read == 32 * 4096 * 2 * 128 * 2
