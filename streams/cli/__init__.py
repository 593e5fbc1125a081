"""The command line: the composition root, the only place that knows every package."""

from streams.cli.main import main

__all__ = ["main"]
