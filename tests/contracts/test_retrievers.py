"""Every retriever runs the one contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders.blend import Blend, LiveBlend, blend
from encoders.bundle import ENCODERS
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
)


def popularity() -> PopularityRetriever:
    return PopularityRetriever(np.random.default_rng(1).random(N_ITEMS + 1, dtype=np.float32))


def encoder_with_index(kind: str) -> EncoderRetriever:
    torch.manual_seed(3)
    config = ENCODERS[kind].Config.model_validate({"embedding_dim": 8, "hidden_dim": 12})
    encoder = ENCODERS[kind](ENCODERS[kind].build(N_ITEMS, config))
    return EncoderRetriever(encoder, FlatIndex.build(encoder.item_vectors))


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


class TestLiveBlend(LiveRetrieverContract):
    def new(self) -> LiveRetriever:
        mixed = blend([SessionKNN(), Markov(), LivePopularity()], fusion="score")
        assert isinstance(mixed, LiveBlend)
        return mixed
