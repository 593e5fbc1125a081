"""Items by identity and by number.

Sessions store an item's 64-bit hash, never its number: numbers change with every vocabulary. Row 0
is padding and stands for every unknown item.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from encoders.errors import VocabularyError
from encoders.records import DEFAULT_CATALOGUE

PADDING_ITEM = 0
_REMEMBERED_HASHES = 1 << 16
"""Looking a hash up is seven times cheaper than working it out, and most events are of few items."""


@lru_cache(_REMEMBERED_HASHES)
def item_hash(item_id: str, catalogue: str = DEFAULT_CATALOGUE) -> int:
    """64-bit identity of an item: BLAKE2b of ``catalogue``, a zero byte and ``item_id``.

    Example:
        >>> item_hash("50") == item_hash("50", "default") != item_hash("50", "films")
        True
    """
    return int.from_bytes(blake2b(f"{catalogue}\0{item_id}".encode(), digest_size=8).digest(), "little")


class Vocabulary:
    """A bijection between item ids and item numbers 1 … n_items, found by hash.

    Held as sorted arrays and one blob of text, not as Python strings, so that a vocabulary of a
    million items costs the collector nothing.

    Args:
        catalogue: The catalogue that the items belong to.
        sorted_hashes: uint64, ascending, no two equal.
        numbers: int32, the item number at each place of ``sorted_hashes``.
        id_bytes: uint8, the item ids in number order, UTF-8, one after the other.
        id_offsets: int64, where each id begins, and at the end where the last one ends.

    Shape:
        - sorted_hashes, numbers: ``(n_items,)``
        - id_offsets: ``(n_items + 1,)``

    Raises:
        VocabularyError: If two items share a hash or the arrays contradict each other.
    """

    def __init__(
        self,
        catalogue: str,
        sorted_hashes: npt.NDArray[np.uint64],
        numbers: npt.NDArray[np.int32],
        id_bytes: npt.NDArray[np.uint8],
        id_offsets: npt.NDArray[np.int64],
    ) -> None:
        n_items = len(sorted_hashes)
        if len(numbers) != n_items or len(id_offsets) != n_items + 1 or id_offsets[-1] != len(id_bytes):
            raise VocabularyError(
                f"vocabulary of {n_items} hashes has {len(numbers)} numbers and {len(id_offsets) - 1} ids"
            )
        if id_offsets[0] != 0 or (np.diff(id_offsets) < 0).any():
            raise VocabularyError("the places of the item ids do not follow one another from 0")
        if n_items and not (sorted_hashes[1:] > sorted_hashes[:-1]).all():
            raise VocabularyError("two items share a hash, or the hashes are not sorted")
        if not np.array_equal(np.sort(numbers), np.arange(1, n_items + 1)):
            raise VocabularyError(f"item numbers are not 1 to {n_items}, each once")
        self.catalogue = catalogue
        self.sorted_hashes = sorted_hashes
        self.numbers = numbers
        self.id_bytes = id_bytes
        self.id_offsets = id_offsets
        # What `item_id` slices: an element of a memoryview is ten times cheaper than one of an array.
        self.id_text, self._id_places = id_bytes.tobytes(), np.ascontiguousarray(id_offsets).data
        self.hashes_by_number = np.zeros(n_items + 1, dtype=np.uint64)
        self.hashes_by_number[numbers] = sorted_hashes

    @classmethod
    def from_ids(cls, item_ids: Sequence[str], catalogue: str = DEFAULT_CATALOGUE) -> Vocabulary:
        """Number the given ids 1, 2, … in their order.

        Raises:
            VocabularyError: If two ids are equal or share a hash; the message names both.
        """
        hashes = np.fromiter((item_hash(i, catalogue) for i in item_ids), dtype=np.uint64, count=len(item_ids))
        order = np.argsort(hashes, kind="stable")
        in_order = hashes[order]
        clash = np.flatnonzero(in_order[1:] == in_order[:-1])
        if len(clash):
            first, second = (item_ids[order[clash[0] + d]] for d in (0, 1))
            raise VocabularyError(
                f"items {first!r} and {second!r} of catalogue {catalogue!r} share the hash {in_order[clash[0]]:016x}"
            )
        encoded = [i.encode() for i in item_ids]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(e) for e in encoded], out=offsets[1:])
        id_bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(catalogue, in_order, (order + 1).astype(np.int32), id_bytes, offsets)

    @property
    def n_items(self) -> int:
        """How many items there are; item numbers run from 1 to this."""
        return len(self.sorted_hashes)

    def item_numbers(self, hashes: Iterable[int] | npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Item numbers of the given hashes; 0 where the item is unknown.

        Shape:
            - hashes: ``(n,)``
            - Output: ``(n,)``
        """
        wanted = np.asarray(hashes if isinstance(hashes, np.ndarray) else list(hashes), dtype=np.uint64)
        if not self.n_items:
            return np.zeros(len(wanted), dtype=np.int64)
        places = np.minimum(np.searchsorted(self.sorted_hashes, wanted), self.n_items - 1)
        return np.where(self.sorted_hashes[places] == wanted, self.numbers[places], PADDING_ITEM).astype(np.int64)

    def item_number(self, item_id: str) -> int:
        """Item number of one id; 0 if it is unknown."""
        return int(self.item_numbers([item_hash(item_id, self.catalogue)])[0])

    def item_id(self, number: int) -> str:
        """The id of an item number.

        Raises:
            VocabularyError: If the number is not 1 … n_items.
        """
        if not 1 <= number <= self.n_items:
            raise VocabularyError(f"item number {number} is not in 1 … {self.n_items}")
        return self.id_text[self._id_places[number - 1] : self._id_places[number]].decode()

    @property
    def item_ids(self) -> list[str]:
        """All ids in number order."""
        return [self.id_text[a:b].decode() for a, b in pairwise(self._id_places)]
