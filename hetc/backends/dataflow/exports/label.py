"""What every export says of itself."""

LABEL = "export for inspection, not accepted by any vendor tool; public information only"
