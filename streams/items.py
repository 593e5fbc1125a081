"""The items as the topic `items` describes them, by their 64-bit hashes."""

from __future__ import annotations

from encoders.records import Item
from encoders.vocabulary import item_hash
from streams.feeds import Refusal, check_key, parse


class ItemCatalogue:
    """Ids, titles and availability of all items, kept for millions of them.

    One dict from hash to bytes, which the garbage collector never walks; a description beyond id and
    title is not kept.

    Example:
        >>> catalogue = ItemCatalogue()
        >>> film = Item(item_id="50", title="Star Wars (1977)", stock=0)
        >>> catalogue.apply(film.key, film.to_json())
        >>> identity = item_hash("50")
        >>> catalogue.title(identity), identity in catalogue.unavailable
        ('Star Wars (1977)', True)
    """

    def __init__(self) -> None:
        self._described: dict[int, bytes] = {}
        self._withheld: set[int] = set()
        self._unavailable: frozenset[int] | None = frozenset()

    def __len__(self) -> int:
        return len(self._described)

    @property
    def unavailable(self) -> frozenset[int]:
        """Hashes of items that may not be listed: marked so, out of stock, or removed.

        The same object until an item's availability changes, so that what was derived from it can be
        kept for as long as ``is`` holds.
        """
        if self._unavailable is None:
            self._unavailable = frozenset(self._withheld)
        return self._unavailable

    def item_id(self, identity: int) -> str | None:
        """The id behind a hash; None if no record described the item."""
        stored = self._described.get(identity)
        return None if stored is None else stored[2 : 2 + int.from_bytes(stored[:2], "little")].decode()

    def title(self, identity: int) -> str | None:
        """The title behind a hash; None if the item has none or is unknown."""
        stored = self._described.get(identity)
        return None if stored is None else stored[2 + int.from_bytes(stored[:2], "little") :].decode() or None

    def apply(self, key: bytes | None, value: bytes | None) -> Refusal | None:
        """Take one record of `items`; a tombstone removes the item from every list.

        Returns:
            None if it was applied, else why not; nothing has changed then.
        """
        if value is None:
            return self._remove(key)
        item = parse(Item, value)
        if isinstance(item, Refusal):
            return item
        if refusal := check_key(key, item.key):
            return refusal
        identity = item_hash(item.item_id, item.catalogue)
        item_id = item.item_id.encode()
        self._described[identity] = len(item_id).to_bytes(2, "little") + item_id + (item.title or "").encode()
        self._withhold(identity, not item.available or (item.stock is not None and item.stock <= 0))
        return None

    def _remove(self, key: bytes | None) -> Refusal | None:
        try:
            catalogue, slash, item_id = (key or b"").decode().partition("/")
        except UnicodeDecodeError as error:
            return Refusal("key", f"a tombstone's key is not UTF-8: byte {error.start}: {error.reason}")
        if not (catalogue and slash and item_id):
            return Refusal("key", f"a tombstone's key must be catalogue/item_id, not {key!r}"[:200])
        identity = item_hash(item_id, catalogue)
        self._described.pop(identity, None)
        self._withhold(identity, True)
        return None

    def _withhold(self, identity: int, withheld: bool) -> None:
        if withheld == (identity in self._withheld):
            return
        (self._withheld.add if withheld else self._withheld.discard)(identity)
        self._unavailable = None
