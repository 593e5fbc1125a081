"""The command line: the composition root, the only place that knows every package."""

import os

# Read when numpy is imported, so before all else. What numpy multiplies here is small, and a second thread would wait
# for a core that other work has.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from streams.cli.main import main

__all__ = ["main"]
