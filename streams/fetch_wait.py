"""How long a broker gets to look for records: longer where it finds too few of those that there are."""

from __future__ import annotations

_FRUITLESS_S = 0.5
_FRUITFUL = 32
"""Records; with fewer a fetch that leaves more behind was cut short."""
_LONGEST_FETCH_WAIT_MS = 500


class FetchWait:
    """How long a broker may look for records before it answers a fetch; longer where it finds too few.

    Tansu goes through the list of all batches of a partition at every fetch and gives up after this time, so
    with a wait that was long enough at first it finds next to nothing once a log has become long.

    Args:
        wait_ms: To begin with.
    """

    def __init__(self, wait_ms: int) -> None:
        self.wait_ms = wait_ms
        self._fruitless_since_s: float | None = None

    def after(self, n_records: int, n_left: int, now_s: float) -> bool:
        """Take in how a fetch came out; True if the wait has become longer.

        Args:
            n_records: How many it had.
            n_left: How many more the log is known to have.
            now_s: The clock, in seconds.
        """
        if not n_left or n_records >= _FRUITFUL:
            self._fruitless_since_s = None
        elif self._fruitless_since_s is None:
            self._fruitless_since_s = now_s
        elif now_s - self._fruitless_since_s >= _FRUITLESS_S and self.wait_ms < _LONGEST_FETCH_WAIT_MS:
            self.wait_ms, self._fruitless_since_s = min(2 * self.wait_ms, _LONGEST_FETCH_WAIT_MS), now_s
            return True
        return False
