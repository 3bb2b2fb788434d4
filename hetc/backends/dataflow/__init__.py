"""The decode half as a spatial plan for a grid of compute and memory units."""
