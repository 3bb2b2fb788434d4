"""The decode half as a plan for a spatial dataflow machine."""
