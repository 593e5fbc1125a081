"""A worker whose model learns what passes through, each event once."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.bundle import RETRIEVERS
from streams.batches import Handled, RecordBatch
from streams.pipeline import Serving
from streams.serving import RetrieverModel
from streams.store import MemoryStore
from tests.inmemory import Bench, batch, click, model, records, retriever_model

FOUR = [click(user=user, item=item) for user in ("ann", "bob") for item in ("7", "8")]


async def serving(served: RetrieverModel, store: MemoryStore | None = None) -> Bench:
    """A worker that owns partition 0."""
    bench = Bench(serving=Serving(served), store=store)
    await bench.acquire()
    return bench


async def list_after(bench: Bench, item: str) -> list[str]:
    """The list of one more user, who has clicked an item."""
    start = bench.worker.partitions[0].computed
    await bench.worker.handle(batch(records([click(user=f"user-{start}", item=item)], start)))
    return [listed["item_id"] for listed in bench.producer.lists()[-1]["items"]]


def times_learned(served: RetrieverModel) -> float:
    """How often a Markov chain has learned that 8 follows 7."""
    numbers, scores = served.bundle.retriever.retrieve(np.array([[7]]), 40)
    return float(scores[numbers == 8].sum())


@pytest.mark.parametrize("kind", RETRIEVERS)
async def test_what_some_users_did_changes_the_next_list_of_another(kind: str) -> None:
    bench = await serving(retriever_model(kind))
    assert "8" not in await list_after(bench, "7")
    await bench.worker.handle(batch(records(FOUR, 1)))
    assert "8" in await list_after(bench, "7")
    assert bench.figure("learned_total") == 6


async def test_a_list_does_not_know_what_its_own_batch_brings() -> None:
    """Else it might list what the same user clicks next."""
    bench = await serving(retriever_model(learned=[(1, 7), (1, 9)]))
    await bench.worker.handle(batch(records(FOUR)))
    firsts = [[item["item_id"] for item in made["items"]] for made in bench.producer.lists()][::2]
    assert firsts == [["9"], ["9"]]
    assert await list_after(bench, "7") == ["8", "9"]


async def test_a_session_goes_on_from_batch_to_batch() -> None:
    served = retriever_model()
    bench = await serving(served)
    for offset, interaction in enumerate(FOUR):
        await bench.worker.handle(batch(records([interaction], offset)))
    assert times_learned(served) == 2


async def test_a_fetch_of_gaps_alone_teaches_nothing() -> None:
    served = retriever_model(learned=[(1, 7), (1, 8)])
    bench = await serving(served)
    assert await bench.worker.handle(RecordBatch(0, 0, 40, [])) is Handled.DONE
    assert await list_after(bench, "7") == ["8"]


async def test_what_the_model_was_trained_on_is_answered_and_not_learned_again() -> None:
    served = retriever_model(trained_through={0: 2})
    bench = await serving(served)
    await bench.worker.handle(batch(records(FOUR)))
    assert (len(bench.producer.lists()), times_learned(served)) == (4, 1)


async def test_a_batch_that_was_refused_and_comes_again_is_learned_once() -> None:
    served, store = retriever_model(), MemoryStore(n_partitions=1)
    bench = await serving(served, store)
    await Bench(store=store).acquire()  # which takes the partition over
    assert await bench.worker.handle(batch(records(FOUR))) is Handled.LOST
    await bench.acquire()
    assert await bench.worker.handle(batch(records(FOUR))) is Handled.DONE
    assert times_learned(served) == 2
    assert bench.figure("learned_total") == 4


async def test_what_is_learned_stays_when_a_partition_goes_and_a_new_owner_begins_with_the_bundle() -> None:
    store, first, second = MemoryStore(n_partitions=1), retriever_model(), retriever_model()
    before = await serving(first, store)
    await before.worker.handle(batch(records(FOUR)))
    after = await serving(second, store)
    assert await list_after(after, "7") == []
    assert (times_learned(first), times_learned(second)) == (2, 0)


async def test_a_new_model_begins_with_what_is_in_its_bundle() -> None:
    bench = await serving(retriever_model())
    await bench.worker.handle(batch(records(FOUR)))
    bench.serving = Serving(retriever_model(version="b"))
    assert await list_after(bench, "7") == []


async def test_between_an_encoder_and_a_retriever_no_session_is_disturbed() -> None:
    """The encoder reads its window anew when it comes back, and answers as if nothing else had been there."""
    swapped, undisturbed = Bench(), Bench()
    for bench in (swapped, undisturbed):
        await bench.acquire()
    for offset, item in enumerate("123456789"):
        interval = offset // 3
        swapped.serving = Serving(retriever_model(learned=[(1, 2), (1, 3)]) if interval == 1 else model())
        undisturbed.serving = Serving(model())
        for bench in (swapped, undisturbed):
            await bench.worker.handle(batch(records([click(item=item)], offset)))
    found, expected = ([made["items"] for made in bench.producer.lists()] for bench in (swapped, undisturbed))
    assert [made["model_version"] for made in swapped.producer.lists()] == ["a"] * 9
    assert [[item["item_id"] for item in each] for each in found[6:]] == [
        [item["item_id"] for item in each] for each in expected[6:]
    ]
    assert found[3:6] != expected[3:6]
