"""The one IR: typed dataclasses, symbolic dims, straight-line SSA, NumPy semantics for every op."""
