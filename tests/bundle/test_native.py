"""The native engine's layout file: what is written is read, and another major is refused."""

from __future__ import annotations

import pytest

from hetc.bundle.native import NATIVE, NativeLayout, Scratch, StateLayout, Variant
from hetc.errors import BundleError

LAYOUT = NativeLayout(
    logit_columns=16,
    weight_bytes=4096,
    state_bytes="1024*B*C",
    scratch={"prefill": Scratch("64*B*T", "64", "128"), "decode": Scratch("0", "64", "128")},
    states=(StateLayout("k", "keys", "0", (2, 8), 0, 8, "f32", "i8", None),),
    variants=(Variant("avx2", ("avx2", "fma")),),
)


def test_what_is_written_is_read() -> None:
    assert NativeLayout.from_bytes(LAYOUT.to_bytes()) == LAYOUT


@pytest.mark.parametrize("major", [1, NATIVE.major + 1])
def test_another_major_is_refused(major: int) -> None:
    """Code of major 1 takes one position for all: it would read other arguments."""
    raw = LAYOUT.to_bytes().replace(str(NATIVE).encode(), f"hetc.native/{major}".encode())
    with pytest.raises(BundleError, match="HETC-B003") as caught:
        NativeLayout.from_bytes(raw)
    again = "compile the model again" if major < NATIVE.major else "install a newer hetc"
    assert again in str(caught.value)
