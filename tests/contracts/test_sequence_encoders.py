"""Every sequence encoder runs the one contract."""

from __future__ import annotations

import pytest
import torch

from encoders.bundle import ENCODERS, BundledEncoder
from encoders.factors import FactorsEncoder
from encoders.gru import GRUConfig, GRUEncoder, GRUModule
from encoders.lru import LRUConfig, LRUEncoder
from encoders.lstm import LSTMConfig, LSTMEncoder
from encoders.sasrec import SASRecConfig, SASRecEncoder
from tests.contracts.encoder_contract import N_ITEMS, SequenceEncoderContract
from tests.small_encoders import small_encoder


class TestGRUEncoder(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> GRUEncoder:
        torch.manual_seed(3)
        return GRUEncoder(GRUModule(N_ITEMS, GRUConfig(embedding_dim=8, hidden_dim=12, dropout=0.5)))


class TestGRUEncoderAfterLoad(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> GRUEncoder:
        torch.manual_seed(3)
        fresh = GRUEncoder(GRUModule(N_ITEMS, GRUConfig(embedding_dim=8, hidden_dim=12)))
        return GRUEncoder.load(fresh.config, fresh.weights, fresh.item_vectors)


class TestLSTMEncoder(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> LSTMEncoder:
        torch.manual_seed(3)
        return LSTMEncoder(LSTMEncoder.build(N_ITEMS, LSTMConfig(embedding_dim=8, hidden_dim=12, dropout=0.5)))


class TestLSTMEncoderAfterLoad(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> LSTMEncoder:
        torch.manual_seed(3)
        fresh = LSTMEncoder(LSTMEncoder.build(N_ITEMS, LSTMConfig(embedding_dim=7, hidden_dim=5)))
        return LSTMEncoder.load(fresh.config, fresh.weights, fresh.item_vectors)


class TestLRUEncoder(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> LRUEncoder:
        torch.manual_seed(3)
        return LRUEncoder(LRUEncoder.build(N_ITEMS, LRUConfig(embedding_dim=8, hidden_dim=12, dropout=0.5)))


class TestLRUEncoderAfterLoad(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> LRUEncoder:
        torch.manual_seed(3)
        fresh = LRUEncoder(LRUEncoder.build(N_ITEMS, LRUConfig(embedding_dim=7, hidden_dim=5, n_layers=3)))
        return LRUEncoder.load(fresh.config, fresh.weights, fresh.item_vectors)


class TestSASRecEncoder(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> SASRecEncoder:
        torch.manual_seed(3)
        config = SASRecConfig(embedding_dim=8, hidden_dim=12, max_len=13, dropout=0.5)
        return SASRecEncoder(SASRecEncoder.build(N_ITEMS, config))


class TestSASRecEncoderAfterLoad(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> SASRecEncoder:
        torch.manual_seed(3)
        config = SASRecConfig(embedding_dim=6, hidden_dim=5, n_layers=3, n_heads=1, max_len=20)
        fresh = SASRecEncoder(SASRecEncoder.build(N_ITEMS, config))
        return SASRecEncoder.load(fresh.config, fresh.weights, fresh.item_vectors)


class TestFactorsEncoder(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> BundledEncoder:
        return small_encoder("mf", N_ITEMS)


class TestFactorsEncoderAfterLoad(SequenceEncoderContract):
    @pytest.fixture
    def encoder(self) -> FactorsEncoder:
        fresh = small_encoder("mf", N_ITEMS, embedding_dim=5)
        return FactorsEncoder.load({**fresh.config, "alpha": 1.5, "half_life": 1.0}, fresh.weights, fresh.item_vectors)


def test_every_kind_a_bundle_may_hold_runs_the_contract() -> None:
    assert set(ENCODERS) == {
        *(GRUEncoder.kind, LSTMEncoder.kind, LRUEncoder.kind, SASRecEncoder.kind, FactorsEncoder.kind)
    }
