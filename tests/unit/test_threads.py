"""How many threads a command multiplies on, if nobody says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import ctypes, re, sys
import streams.cli.worker, numpy
names = {found[0] for line in open("/proc/self/maps") if (found := re.search(r"/\\S*openblas\\S*", line))}
asked = ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads")
counts = [getattr(lib, name)() for lib in map(ctypes.CDLL, names) for name in asked if hasattr(lib, name)]
print(*counts[:1])
"""


def threads(**environment: str) -> int:
    """Of numpy's BLAS, in a process that has imported a command."""
    inherited = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=Path(__file__).parents[2],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    if not done.stdout.strip():
        pytest.skip("numpy multiplies with something else than OpenBLAS here")
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="says which library is loaded on Linux only")
def test_a_command_multiplies_on_one_thread_unless_it_is_told_otherwise() -> None:
    assert threads() == 1
    if (os.cpu_count() or 1) > 1:
        assert threads(OMP_NUM_THREADS="2") == threads(OPENBLAS_NUM_THREADS="2") == 2
