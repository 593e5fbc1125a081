"""What a fit costs."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
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
    earlier_s: float = 0.0
    """Of `wall_s`, what earlier processes took."""

    @property
    def of_earlier(self) -> Cost:
        """The same, where it was spent by an earlier process."""
        return replace(self, earlier_s=self.wall_s)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cpu_s + other.cpu_s,
            self.wall_s + other.wall_s,
            self.n_targets + other.n_targets,
            max(self.peak_bytes, other.peak_bytes),
            self.earlier_s + other.earlier_s,
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
