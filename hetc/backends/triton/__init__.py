"""The prefill half as Triton kernels, compiled ahead of time, and the plan that launches them."""
