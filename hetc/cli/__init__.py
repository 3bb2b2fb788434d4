"""The command line: parses and prints; everything else is the driver's."""

from hetc.cli.app import main

__all__ = ["main"]
