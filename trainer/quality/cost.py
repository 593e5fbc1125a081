"""What a fit costs."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Of a fit, or of several together."""

    cpu_s: float = 0.0
    """Of all threads."""
    wall_s: float = 0.0
    n_targets: int = 0
    """Next items that were learned, each counted once an epoch; of a model that learns every event, the events."""
    peak_bytes: int = 0
    """Most memory that the process had ever held when the fit was over, data and libraries included."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cpu_s + other.cpu_s,
            self.wall_s + other.wall_s,
            self.n_targets + other.n_targets,
            max(self.peak_bytes, other.peak_bytes),
        )

    @property
    def figures(self) -> dict[str, Any]:
        """For JSON, with the speed."""
        return {**asdict(self), "targets_per_s": self.n_targets / self.wall_s if self.wall_s else 0.0}


class Stopwatch:
    """Counts what the process spends from when it is made."""

    def __init__(self, before: Cost | None = None) -> None:
        self._before = before or Cost()
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def spent(self, n_targets: int) -> Cost:
        """What was spent so far, and before."""
        cpu_s, wall_s = time.process_time() - self._cpu_s, time.perf_counter() - self._wall_s
        return self._before + Cost(cpu_s, wall_s, n_targets, peak_bytes())


def peak_bytes() -> int:
    """Most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
