"""Where a benchmark's figures come from: commit, machine, libraries, servers."""

from __future__ import annotations

import psutil

from trainer.machine import machine

LIBRARIES = (
    "aiokafka", "faiss-cpu", "faust-streaming", "hiredis", "numba", "numpy", "quixstreams", "redis", "torch",
)  # fmt: skip


def environment(servers: dict[str, str]) -> dict[str, str | int | float]:
    """All of it, with flat keys.

    Args:
        servers: What is said of the servers.
    """
    return {**machine(LIBRARIES), "memory_gb": round(psutil.virtual_memory().total / 1e9, 1), **servers}
