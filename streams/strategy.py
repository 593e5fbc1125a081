"""From scored candidates to lists: filters and the cut to the top N, vectorised over a batch.

Shape letters: ``B`` events, ``K`` candidates of each, ``N`` length of a list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
_MARGIN = 6
_MOST_SHORT, _FEWEST_SHORT = 0.08, 0.04
"""Between these shares of rows that filters leave short the first search is as wide as it should be."""


class Width:
    """How many candidates to fetch at first, for each list of ``n``: learned from how many lists come out short.

    A wider search costs every row a little, a row searched again costs much. What is listed does not depend on it.
    """

    def __init__(self) -> None:
        self._per_item = 2.0

    def candidates(self, top_n: int) -> int:
        """How many candidates to fetch."""
        return round(self._per_item * top_n) + _MARGIN

    def learn(self, n_rows: int, n_short: int) -> None:
        """Take in how a batch came out."""
        if n_short > _MOST_SHORT * n_rows:
            self._per_item = min(1.1 * self._per_item, 16.0)
        elif n_short < _FEWEST_SHORT * n_rows:
            self._per_item = max(0.98 * self._per_item, 1.0)


def seen_mask(
    candidates_BK: npt.NDArray[np.uint32], windows: Sequence[bytes], seen: Sequence[frozenset[int]]
) -> npt.NDArray[np.bool_]:
    """Which candidates the user of each row has seen.

    What is in the window is compared all at once; what has left it is looked up, which costs the same however
    much that is.

    Args:
        candidates_BK: 32-bit fingerprints.
        windows: 64-bit item hashes, little endian, for each row, at least one: what the user's window holds.
        seen: Fingerprints of what has left it.

    Shape:
        - candidates_BK: ``(B, K)``
        - Output: ``(B, K)``
    """
    candidates_KB = np.ascontiguousarray(candidates_BK.T)  # so that the long axis is the inner one
    mask_KB = np.zeros(candidates_KB.shape, dtype=np.bool_)
    same_KB = np.empty_like(mask_KB)
    for items_B in np.ascontiguousarray(_fingerprints(windows).T):
        mask_KB |= np.equal(candidates_KB, items_B, out=same_KB)
    rows, left = [], []
    for row, (fingerprints, candidates) in enumerate(zip(seen, candidates_BK.tolist(), strict=True)):
        if fingerprints and not fingerprints.isdisjoint(candidates):
            rows.append(row)
            left.append([*map(fingerprints.__contains__, candidates)])
    if rows:
        mask_KB[:, rows] |= np.array(left).T
    return mask_KB.T


def _fingerprints(windows: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """Fingerprints of the windows' items; a row shorter than the longest repeats its first. Shape: ``(B, T)``."""
    lengths = np.fromiter(map(len, windows), np.int64, len(windows)) // 8
    ends = np.cumsum(lengths)
    flat = np.frombuffer(b"".join(windows), dtype="<u4")[::2]
    if not len(flat):
        return np.zeros((len(windows), 0), dtype=np.uint32)
    steps = np.arange(lengths.max(initial=1))
    places = (ends - lengths)[:, None] + np.where(steps < lengths[:, None], steps, 0)
    fingerprints: npt.NDArray[np.uint32] = flat[places]
    return fingerprints


def first_allowed(allowed_BK: npt.NDArray[np.bool_], n: int) -> tuple[IntArray, IntArray]:
    """Where the first ``n`` allowed candidates of each row stand, in their order.

    Returns:
        Row and column of every kept candidate, by row and then by rank.
    """
    kept = allowed_BK & (np.cumsum(allowed_BK, axis=1) <= n)
    rows, columns = np.nonzero(kept)
    return rows, columns
