"""One file a pass: Graph -> Graph, or Program -> Program. `registry` lists them by name."""
