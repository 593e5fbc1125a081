"""Whether there is memory for what is to be measured: asked before the first benchmark, not hours into them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

import psutil

from streams.cli.bench.benchmark import Benchmark
from streams.cli.bench.errors import BenchError

QUICK_GB = 1.5
"""What tiny models take, all processes together."""
_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


class _Files(NamedTuple):
    """Where a version of cgroups keeps its figures."""

    limit: str
    used: str
    idle: str
    """Key of `memory.stat` for files that nobody has used for long: the kernel takes their memory back when asked."""


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def insist_on_memory(benchmarks: Sequence[Benchmark], quick: bool, available_bytes: float) -> None:
    """Refuse benchmarks that this machine has no memory for.

    Args:
        benchmarks: All that are to run, one after the other.
        quick: Whether their models are tiny.
        available_bytes: What there is for all processes together.

    Raises:
        BenchError: If there is too little for one of them; says for which, and how much they take.
    """
    available_gb = available_bytes / 1e9
    needs = {benchmark.name: QUICK_GB if quick else benchmark.memory_gb for benchmark in benchmarks}
    if too_large := [f"{name} takes about {gb:.1f} GB" for name, gb in needs.items() if gb > available_gb]:
        raise BenchError(
            f"{' and '.join(too_large)} of memory and {available_gb:.1f} GB are available;"
            " free some, or name the benchmarks that need less"
        )


def available_memory_bytes() -> float:
    """What this process and its children may still take: what the machine has, and what a cgroup lets them have."""
    machine_bytes = float(psutil.virtual_memory().available)
    try:
        membership = _MEMBERSHIP.read_text()
    except OSError:  # no Linux
        return machine_bytes
    return min(machine_bytes, cgroup_room_bytes(_CGROUPS, membership))


def cgroup_room_bytes(root: Path, membership: str) -> float:
    """What the limits of cgroups leave, infinite where there are none.

    A limit holds for all cgroups below, so those above are looked at, too. In a container they may not be visible, and
    neither may the path that the kernel names: its own limit is then at the root.

    Args:
        root: Where cgroups are mounted.
        membership: What `/proc/self/cgroup` says: ``0::/path`` of version 2, ``5:memory:/path`` of version 1.
    """
    room_bytes = inf
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, files = root, _V2
        elif "memory" in controllers.split(","):
            top, files = root / "memory", _V1
        else:
            continue
        mine = top / path.lstrip("/")
        for folder in (mine, *mine.parents):
            if folder.is_relative_to(top):
                room_bytes = min(room_bytes, _room_bytes(folder, files))
    return room_bytes


def _room_bytes(folder: Path, files: _Files) -> float:
    try:
        limit_bytes, used_bytes = (int((folder / name).read_text()) for name in (files.limit, files.used))
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return inf
    return max(0, limit_bytes - used_bytes + _idle_bytes(folder, files))


def _idle_bytes(folder: Path, files: _Files) -> int:
    """Counted as used, and given back when asked: what `psutil` counts as available, too."""
    try:
        figures = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        return int(figures.get(files.idle, 0))
    except (OSError, ValueError):
        return 0
