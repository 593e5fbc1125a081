"""What a bundle is worth on events: those it has not seen, where there are such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.bundle import Bundle, EncoderBundle, RetrieverBundle
from encoders.protocols import IntArray, Retriever
from encoders.retrieval import EncoderRetriever
from encoders.vocabulary import item_hash
from index.build import load_index
from index.flat import FlatIndex
from trainer.interactions import BoolArray, Interactions
from trainer.measure import compare
from trainer.report import Report
from trainer.split import split_by_time


@dataclass(frozen=True)
class Assessment:
    """Figures of a bundle."""

    version: str
    figures: dict[str, float]
    """By name, as `trainer.measure.compare` gives them; empty if there was nothing to predict."""
    unseen: bool
    """Whether the model had not been trained on the events; if it had, the figures flatter it."""


def assess(
    bundle: Bundle, events: Interactions, trained: BoolArray, test_fraction: float, report: Report
) -> Assessment:
    """Predict what the model has not seen, or the newest part if it has seen everything.

    Args:
        bundle: The model, with its own index, window rule and popularity.
        events: The log.
        trained: Which events the model was trained on. Shape: ``(n_events,)``.
        test_fraction: Share of the events, by time, to predict where it was trained on all.
        report: Told how far it is.

    Raises:
        VectorIndexError: If the bundle's index cannot be read.
    """
    unseen = not trained.all()
    is_test = ~trained if unseen else split_by_time(events, 0.0, test_fraction).test
    known_users = np.zeros(len(events.user_ids), dtype=bool)
    known_users[events.user_codes[trained]] = True
    figures = compare(
        retriever_of(bundle),
        bundle.popularity,
        events,
        item_numbers(bundle, events),
        is_test,
        known_users,
        bundle.manifest.window_rule,
        report,
    )
    return Assessment(bundle.manifest.version, figures, unseen)


def item_numbers(bundle: Bundle, events: Interactions) -> IntArray:
    """Number of each event's item in a bundle, 0 where it does not know the item. Shape: ``(n_events,)``."""
    hashes = [item_hash(item_id, bundle.manifest.catalogue) for item_id in events.item_ids]
    return bundle.vocabulary.item_numbers(hashes)[events.item_codes]


def retriever_of(bundle: Bundle, *, exact: bool = False) -> Retriever:
    """What answers as a worker that has just read the bundle does.

    Args:
        bundle: The model.
        exact: Whether an encoder's items are searched exactly, and not by the bundle's index.

    Raises:
        VectorIndexError: If its index cannot be read.
    """
    if isinstance(bundle, EncoderBundle):
        index = (
            FlatIndex.build(bundle.item_vectors) if exact else load_index(bundle.index_path, bundle.manifest.index.kind)
        )
        return EncoderRetriever(bundle.encoder, index)
    assert isinstance(bundle, RetrieverBundle), "there is no other"
    return bundle.retriever


def trained_mask(events: Interactions, trained_through: dict[int, int]) -> BoolArray:
    """Which events stand before the offsets that a model was trained through. Shape: ``(n_events,)``."""
    width = int(events.partitions.max(initial=0)) + 1
    through = np.array([trained_through.get(partition, 0) for partition in range(width)], dtype=np.int64)
    mask: BoolArray = events.offsets < through[events.partitions]
    return mask
