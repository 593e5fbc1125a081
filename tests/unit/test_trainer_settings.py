"""Settings of the trainer: each model has defaults of its own, and what is set holds for any."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from encoders.bundle import ENCODERS, NETWORKS, RETRIEVERS
from trainer.fit import build_model
from trainer.settings import TrainerSettings


def test_every_model_that_a_bundle_may_hold_can_be_named() -> None:
    assert set(get_args(TrainerSettings.model_fields["model"].annotation)) == {*ENCODERS, *RETRIEVERS}


def test_what_is_set_beats_the_models_default_and_that_the_general_one() -> None:
    gru, lru = TrainerSettings(), TrainerSettings(model="lru")
    assert lru.max_epochs > gru.max_epochs
    assert TrainerSettings(model="lru", max_epochs=3).max_epochs == 3
    assert lru.batch_size == gru.batch_size


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="'mf', 'gru', 'lstm', 'lru' or 'sasrec'"):
        TrainerSettings.model_validate({"model": "rnn"})


@pytest.mark.parametrize("model", NETWORKS)
def test_a_module_is_made_as_the_settings_say(model: str) -> None:
    settings = TrainerSettings.model_validate({"model": model, "embedding_dim": 8, "hidden_dim": 5, "dropout": 0.125})
    config = build_model(9, settings).config.model_dump()
    assert (config["embedding_dim"], config["hidden_dim"], config["dropout"]) == (8, 5, 0.125)


def test_heads_that_do_not_fit_are_refused_before_anything_is_read() -> None:
    with pytest.raises(ValidationError, match="embedding_dim must be a multiple of 6"):
        TrainerSettings(model="sasrec", n_heads=3)
    assert TrainerSettings(model="gru", n_heads=3).embedding_dim == 64
