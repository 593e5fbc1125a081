"""Valid events and stored sessions as columns, which the compiled loops go through.

Shape letters: ``B`` events, ``U`` their sessions, ``I`` their items, ``C`` their catalogues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from encoders.compiled import IntArray, as_bytes
from encoders.vocabulary import item_hash
from streams.advance import Events, Stored
from streams.parsing import Fields
from streams.session import SessionKey, event_hashes
from streams.texts import Texts, chained, distinct, ends_of, gathered, texts, texts_at


@dataclass(frozen=True, slots=True)
class Received:
    """Valid events, those of one partition in the order of their offsets."""

    offset_B: IntArray
    timestamp_ms_B: IntArray
    type_B: npt.NDArray[np.uint8]
    """Codes of `encoders.events`."""
    event_ids: Texts
    user_ids: Texts
    keys: list[SessionKey]
    """Of the sessions that the events belong to, in the order in which they come up."""
    session_B: IntArray
    """Place in `keys`."""
    items: list[tuple[str, str]]
    """Catalogue and id of those that the events are of, in the order in which they come up."""
    item_B: IntArray
    """Place in `items`; -1 of an event without one."""

    def __len__(self) -> int:
        return len(self.offset_B)

    @classmethod
    def nothing(cls) -> Self:
        """No event."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, none, none.astype(np.uint8), texts([]), texts([]), [], none, [], none)

    @classmethod
    def of(cls, whole: bytes, offset_B: IntArray, fields: Fields) -> Self:
        """Events as they were read.

        Args:
            whole: What the spans of the fields point into.
            offset_B: Where each event stands in its partition.
            fields: What they say; each names its catalogue.
        """
        data = as_bytes(whole)
        catalogue_B, first_C = distinct(data, fields.catalogue_R2, np.zeros_like(offset_B))
        session_B, first_U = distinct(data, fields.user_id_R2, catalogue_B)
        item_B, first_I = distinct(data, fields.item_id_R2, catalogue_B)
        names = texts_at(whole, fields.catalogue_R2[first_C])
        users, items = texts_at(whole, fields.user_id_R2[first_U]), texts_at(whole, fields.item_id_R2[first_I])
        return cls(
            offset_B,
            fields.timestamp_ms_R,
            fields.type_R,
            gathered(data, fields.event_id_R2),
            gathered(data, fields.user_id_R2),
            list(map(SessionKey, [names[c] for c in catalogue_B[first_U].tolist()], users)),
            session_B,
            list(zip([names[c] for c in catalogue_B[first_I].tolist()], items, strict=True)),
            item_B,
        )

    @classmethod
    def together(cls, parts: Sequence[Received]) -> Received:
        """The events of several partitions, which have no user in common, one after the other."""
        if len(parts) <= 1:
            return parts[0] if parts else cls.nothing()
        n_keys, n_items = ends_of([len(part.keys) for part in parts]), ends_of([len(part.items) for part in parts])
        return cls(
            np.concatenate([part.offset_B for part in parts]),
            np.concatenate([part.timestamp_ms_B for part in parts]),
            np.concatenate([part.type_B for part in parts]),
            chained([part.event_ids for part in parts]),
            chained([part.user_ids for part in parts]),
            [key for part in parts for key in part.keys],
            np.concatenate([part.session_B + n for part, n in zip(parts, n_keys[:-1], strict=True)]),
            [item for part in parts for item in part.items],
            np.concatenate(
                [np.where(p.item_B < 0, -1, p.item_B + n) for p, n in zip(parts, n_items[:-1], strict=True)]
            ),
        )


def events_of(received: Received, answerable: str | None, window_types: frozenset[int]) -> Events:
    """What `advance` needs of events.

    Args:
        received: The events.
        answerable: The catalogue that the model can answer; None without a model.
        window_types: Codes of the event types that enter windows.
    """
    hashes = np.array([item_hash(item, catalogue) for catalogue, item in received.items] + [0], dtype=np.uint64)
    enters_by_code = np.zeros(256, dtype=np.bool_)
    enters_by_code[list(window_types)] = True
    asks_U = np.array([key.catalogue == answerable for key in received.keys], dtype=np.bool_)
    return Events(
        received.session_B,
        received.offset_B,
        event_hashes(received.event_ids),
        hashes[received.item_B],  # -1 is the last one
        received.timestamp_ms_B // 1000,
        received.type_B,
        (received.item_B >= 0) & enters_by_code[received.type_B],
        asks_U[received.session_B],
    )


def stored_of(packed: Sequence[bytes], seen: Sequence[bytes]) -> Stored:
    """What `advance` needs of stored sessions; of one that is new, nothing.

    Args:
        packed: The sessions.
        seen: What has left their windows.
    """
    return Stored(
        as_bytes(b"".join(packed)),
        ends_of([len(session) for session in packed]),
        np.frombuffer(bytearray().join(seen), dtype=np.uint32),  # may be written to, unlike bytes
        ends_of([len(fingerprints) // 4 for fingerprints in seen]),
    )
