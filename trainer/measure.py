"""What a model is worth beside popularity."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from encoders.bundle import BundledEncoder
from encoders.popularity import PopularityRetriever, decayed_counts
from encoders.protocols import FloatArray, IntArray, Retriever
from encoders.retrieval import EncoderRetriever
from encoders.window import WindowRule
from index.flat import FlatIndex
from trainer.evaluate import answer, ask, metrics
from trainer.interactions import BoolArray, Interactions
from trainer.report import Report

TOP_K = 10


def popularity(events: Interactions, half_life: timedelta, among: BoolArray | slice = slice(None)) -> FloatArray:
    """Decayed counts of a log's items: those of the item of code 0 under the number 1, and so on.

    Args:
        events: The log.
        half_life: Of what an event adds.
        among: The events that count, as a mask; without it all.

    Shape:
        - among: ``(n_events,)``
        - Output: ``(n_items + 1,)``
    """
    numbers, times_s, weights = events.item_codes[among] + 1, events.times_ms[among] / 1000, events.weights[among]
    return decayed_counts(numbers, times_s, weights, len(events.item_ids), half_life.total_seconds())


def measure(
    retriever: Retriever,
    learned: BoolArray,
    events: Interactions,
    is_test: BoolArray,
    rule: WindowRule,
    half_life: timedelta,
    report: Report,
) -> dict[str, float]:
    """Next-item prediction on the test part by a model that has learned nothing of it.

    Popularity is as of the beginning of the test part, so it has seen the validation part, too; an item
    that only came later is one that the model does not know.

    Args:
        retriever: The model, with items of code 0, 1, … under the numbers 1, 2, …
        learned: Which events it has learned.
        events: The whole log.
        is_test: Which events to predict.
        rule: How windows are cut.
        half_life: Of popularity.
        report: Told how far it is.

    Shape:
        - learned, is_test: ``(n_events,)``
    """
    known_users = np.zeros(len(events.user_ids), dtype=bool)
    known_users[events.user_codes[learned]] = True
    if not learned.any():
        report.say("Too few events to measure the model on")
        return {}
    numbers, popular = learned_numbers(events, learned), popularity(events, half_life, ~is_test)
    return compare(retriever, popular, events, numbers, is_test, known_users, rule, report)


def exact(encoder: BundledEncoder) -> Retriever:
    """A fitted encoder with exact search, so that it is not judged by how an index was tuned."""
    return EncoderRetriever(encoder, FlatIndex.build(encoder.item_vectors))


def learned_numbers(events: Interactions, learned: BoolArray) -> IntArray:
    """Item number of each event to a model of the whole log that has learned a part: 0 for items that are not in it.

    Shape:
        - learned: ``(n_events,)``
        - Output: ``(n_events,)``
    """
    known = np.zeros(len(events.item_ids), dtype=bool)
    known[events.item_codes[learned]] = True
    return np.where(known[events.item_codes], events.item_codes + 1, 0)


def compare(
    retriever: Retriever,
    popular: FloatArray,
    events: Interactions,
    numbers: IntArray,
    is_test: BoolArray,
    known_users: BoolArray,
    rule: WindowRule,
    report: Report,
) -> dict[str, float]:
    """Figures of a model by name and, with `popularity_` before it, of popularity on the same events.

    Args:
        retriever: The model.
        popular: Score of each item.
        events: The whole log.
        numbers: Item number of each event, 0 where the model does not know the item.
        is_test: Which events to predict.
        known_users: For each user code, whether the model learned from them.
        rule: How windows are cut.
        report: Told how far it is.

    Returns:
        Empty if there is nothing to predict.

    Shape:
        - popular: ``(n_items + 1,)``
        - numbers, is_test: ``(n_events,)``
        - known_users: ``(n_users,)``
    """
    questions = ask(events, rule, numbers, is_test)
    if not len(questions):
        report.say("Too few events to measure the model on: in the newest part, nobody did a second thing")
        return {}
    n_items, label = len(popular) - 1, f"evaluating {len(questions):,} next events"
    answers = answer(questions, retriever, n_items, TOP_K, lambda done: report.progress(label, done, len(questions)))
    beside = answer(questions, PopularityRetriever(popular), n_items, TOP_K)
    return {
        **metrics(questions, answers, known_users, TOP_K),
        **{f"popularity_{name}": value for name, value in metrics(questions, beside, known_users, TOP_K).items()},
        "n_test_events": float(len(questions)),
    }
