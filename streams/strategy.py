"""From scored candidates to lists: filters and the cut to the top N, vectorised over a batch.

Shape letters: ``B`` events, ``K`` candidates of each, ``N`` length of a list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


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
    mask = np.zeros(candidates_BK.shape, dtype=np.bool_)
    same = np.empty_like(mask)
    for items_B1 in _fingerprints(windows).T[:, :, None]:
        mask |= np.equal(candidates_BK, items_B1, out=same)
    for row in [row for row, fingerprints in enumerate(seen) if fingerprints]:
        mask[row] |= [*map(seen[row].__contains__, candidates_BK[row].tolist())]
    return mask


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
