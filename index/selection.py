"""Telling FAISS which rows may be answers."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from index.protocol import BoolArray


class Selection:
    """The items that are left, as FAISS asks for them: one bit a row.

    FAISS holds plain pointers, so whoever searches with `selector` holds this object.

    Args:
        removed: By item number; row 0 is padding. Shape: ``(n_items + 1,)``.
    """

    def __init__(self, removed: BoolArray) -> None:
        self.removed = removed.copy()
        self.removed[0] = False  # padding stands for no item
        left = ~removed[1:]
        self.n_left = int(np.count_nonzero(left))
        self._bits = np.packbits(left, bitorder="little")
        self.selector: Any = faiss.IDSelectorBitmap(self._bits)  # type: ignore[call-arg,arg-type] # the stub is C++'s
