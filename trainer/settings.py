"""Settings of the trainer: section `[trainer]` of `streamrec.toml`."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from encoders.records import DEFAULT_CATALOGUE, CatalogueName


class TrainerSettings(BaseModel):
    """How a model is trained and measured. The defaults were tuned on MovieLens 100K, by global time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalogue: CatalogueName = DEFAULT_CATALOGUE
    """The catalogue whose interactions are learned from."""
    min_events: int = Field(default=50, ge=2)
    """With fewer usable events nothing is trained."""
    validation_fraction: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the events, by time, that decides when the fit stops: the newest before the test part."""
    test_fraction: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the events, by time, that the model is measured on: the newest."""
    embedding_dim: int = Field(default=64, ge=1)
    hidden_dim: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    max_epochs: int = Field(default=4, ge=1)
    """Most passes over the training part; the learning rate falls to nearly nothing over them."""
    patience: int = Field(default=1, ge=1)
    """Stop after this many passes that did not better the loss on the validation part."""
    refresh_epochs: int = Field(default=1, ge=1)
    """Passes over all events, validation and test part included, before the model is published."""
    refresh_rate: float = Field(default=0.5, gt=0)
    """Learning rate of these passes, relative to `learning_rate`."""
    batch_size: int = Field(default=32, ge=1)
    """Windows in one step."""
    learning_rate: float = Field(default=0.015, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    n_negatives: int = Field(default=4096, ge=1)
    """Items that each target is compared with; a catalogue of no more items is compared whole."""
    seed: int = 0
    threads: int = Field(default=1, ge=1)
    """Processors for the fit. The steps of a GRU are small: on two processors a second one gained nothing."""

    @model_validator(mode="after")
    def _something_left_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError("validation_fraction and test_fraction leave less than a fifth to train on")
        return self
