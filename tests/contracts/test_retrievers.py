"""Every retriever runs the one contract."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.blend import Blend, LiveBlend, blend
from encoders.bundle import ENCODERS, BundledEncoder
from encoders.live_encoder import LiveEncoder
from encoders.markov import Markov, MarkovConfig
from encoders.popularity import LivePopularity, PopularityConfig, PopularityRetriever
from encoders.protocols import LiveRetriever
from encoders.retrieval import EncoderRetriever
from encoders.session_knn import SessionKNN, SessionKNNConfig
from index.flat import FlatIndex
from tests.contracts.retriever_contract import (
    N_ITEMS,
    BundledRetrieverContract,
    FullRetrieverContract,
    LiveRetrieverContract,
    random_events,
)
from tests.small_encoders import small_encoder


def popularity() -> PopularityRetriever:
    return PopularityRetriever(np.random.default_rng(1).random(N_ITEMS + 1, dtype=np.float32))


def encoder_of(kind: str) -> BundledEncoder:
    return small_encoder(kind, N_ITEMS)


def encoder_with_index(kind: str) -> EncoderRetriever:
    encoder = encoder_of(kind)
    return EncoderRetriever(encoder, FlatIndex.build(encoder.item_vectors))


def live_encoder(kind: str, is_trained: np.ndarray) -> LiveEncoder:
    return LiveEncoder(encoder_of(kind), is_trained)


def gru() -> EncoderRetriever:
    return encoder_with_index("gru")


class TestPopularity(FullRetrieverContract):
    @pytest.fixture
    def retriever(self) -> PopularityRetriever:
        return popularity()


class TestEncoderWithIndex(FullRetrieverContract):
    @pytest.fixture(params=ENCODERS)
    def retriever(self, request: pytest.FixtureRequest) -> EncoderRetriever:
        return encoder_with_index(request.param)


class TestBlend(FullRetrieverContract):
    @pytest.fixture
    def retriever(self) -> Blend:
        return blend([gru(), popularity()], [2.0, 1.0])


class TestBlendByProbability(FullRetrieverContract):
    @pytest.fixture
    def retriever(self) -> Blend:
        return blend([gru(), popularity()], [2.0, 1.0], fusion="probability")


class TestBlendByScore(FullRetrieverContract):
    @pytest.fixture
    def retriever(self) -> Blend:
        return blend([gru(), popularity()], fusion="score")


class TestLivePopularity(BundledRetrieverContract):
    def new(self) -> LivePopularity:
        return LivePopularity(PopularityConfig(half_life_s=600))


class TestLivePopularityOverManyHalfLives(BundledRetrieverContract):
    def new(self) -> LivePopularity:
        return LivePopularity(PopularityConfig(half_life_s=2))


class TestMarkov(BundledRetrieverContract):
    def new(self) -> Markov:
        return Markov()


class TestMarkovWithDecayAndFewRules(BundledRetrieverContract):
    def new(self) -> Markov:
        return Markov(MarkovConfig(half_life_s=3, max_rules=5, max_clicks=64))


class TestSessionKNN(BundledRetrieverContract):
    def new(self) -> SessionKNN:
        return SessionKNN()


class TestSessionKNNWithLittleMemory(BundledRetrieverContract):
    def new(self) -> SessionKNN:
        return SessionKNN(SessionKNNConfig(max_clicks=128, n_recent=12, n_neighbours=8, lists_last_item=True))


class TestLiveEncoder(LiveRetrieverContract):
    """Of an encoder that was trained on two items of three."""

    @pytest.fixture(params=ENCODERS, autouse=True)
    def kind(self, request: pytest.FixtureRequest) -> str:
        self._kind: str = request.param
        return self._kind

    def new(self) -> LiveEncoder:
        return live_encoder(self._kind, np.arange(N_ITEMS + 1) % 3 > 0)

    def test_who_has_learned_nothing_has_no_answers(self) -> None:
        """Here who knows no item, neither from training nor by what is beside it."""
        unknowing = live_encoder(self._kind, np.zeros(N_ITEMS + 1, dtype=bool))
        unknowing.learn(*random_events())
        items, scores = unknowing.retrieve(np.array([[0, 0, 0], [1, 2, 3]]), 4)
        assert (items == 0).all()
        assert (scores == -np.inf).all()


class TestLiveBlend(LiveRetrieverContract):
    def new(self) -> LiveRetriever:
        mixed = blend([SessionKNN(), Markov(), LivePopularity()], fusion="score")
        assert isinstance(mixed, LiveBlend)
        return mixed
