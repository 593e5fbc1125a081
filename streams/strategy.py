"""From scored candidates to lists: filters and the cut to the top N, vectorised over a batch.

Shape letters: ``B`` events, ``K`` candidates of each, ``N`` length of a list.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def seen_mask(candidates_BK: npt.NDArray[np.uint32], seen: list[list[int]]) -> npt.NDArray[np.bool_]:
    """Which candidates the user of each row has seen.

    Args:
        candidates_BK: 32-bit fingerprints of the candidates.
        seen: 32-bit fingerprints for each row; lengths differ.

    Shape:
        - candidates_BK: ``(B, K)``
        - Output: ``(B, K)``
    """
    rows_B = np.arange(len(seen), dtype=np.uint64) << np.uint64(32)
    lengths = [len(row) for row in seen]
    flat = np.fromiter((value for row in seen for value in row), dtype=np.uint64, count=sum(lengths))
    return np.isin(candidates_BK.astype(np.uint64) | rows_B[:, None], flat | np.repeat(rows_B, lengths))


def first_allowed(allowed_BK: npt.NDArray[np.bool_], n: int) -> tuple[IntArray, IntArray]:
    """Where the first ``n`` allowed candidates of each row stand, in their order.

    Returns:
        Row and column of every kept candidate, by row and then by rank.
    """
    kept = allowed_BK & (np.cumsum(allowed_BK, axis=1) <= n)
    rows, columns = np.nonzero(kept)
    return rows, columns
