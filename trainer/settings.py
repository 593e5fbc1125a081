"""Settings of the trainer: sections `[trainer]` and `[gate]` of `streamrec.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from encoders.factors import FactorsConfig
from encoders.markov import MarkovConfig
from encoders.popularity import PopularityConfig
from encoders.records import DEFAULT_CATALOGUE, CatalogueName
from encoders.session_knn import SessionKNNConfig

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "lstm": {"learning_rate": 0.01, "max_epochs": 8, "patience": 2},
    "lru": {"dropout": 0.4, "learning_rate": 0.005, "max_epochs": 8, "patience": 2},
    "sasrec": {"dropout": 0.5, "learning_rate": 0.003, "max_epochs": 16, "patience": 3},
}
"""What other models than the first want otherwise."""


class FactorsSettings(FactorsConfig):
    """How item vectors are fitted, and user vectors folded in. The defaults were tuned on MovieLens 100K, by time."""

    objective: Literal["als", "bpr"] = "als"
    """Least squares over all pairs of user and item, or the order of each pair of items, one clicked and one not."""
    regularization: float = Field(default=30.0, gt=0)
    """Of least squares: of the fit by ALS, and of folding in."""
    n_iterations: int = Field(default=15, ge=1)
    """Passes over the interactions."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Of BPR."""
    pair_regularization: float = Field(default=0.01, ge=0)
    """Of BPR."""


class CleaningSettings(BaseModel):
    """What the trainer leaves out of usable events; each rule is off until it is set. See `trainer.filters`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    earliest: AwareDatetime | None = None
    """Events before are of a clock that was wrong, as `2020-01-01T00:00:00Z`."""
    same_item_within_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """An event of the item that its user's event just before was of counts for nothing so many seconds after it: a
    double click, a page that was loaded again."""
    max_events_per_hour: int | None = Field(default=None, ge=1)
    """A user who somewhere has more within an hour is a robot, of whom nothing is learned."""
    max_user_events: int | None = Field(default=None, ge=1)
    """A user with more events in all is none that others resemble, such as a shop's own test account."""
    min_item_events: int = Field(default=1, ge=1)
    """Items with fewer events are not learned, and cannot be listed by the model."""
    min_user_events: int = Field(default=1, ge=1)
    """Users with fewer events are not learned from; workers answer them as anybody. Rare users and items go by turns,
    until none is left."""


class TrainerSettings(BaseModel):
    """How a model is trained and measured. The defaults were tuned on MovieLens 100K, by global time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["popularity", "markov", "session-knn", "mf", "gru", "lstm", "lru", "sasrec"] = "gru"
    """What is trained. Fitted are recurrent networks (GRU4Rec; `lstm`), linear recurrent units (LRURec) and causal
    self-attention (SASRec); what is not set below has a default of its own for each. The others have a section each:
    matrix factorisation (`mf`), by alternating least squares or from pairs, and popularity, sequential rules (`markov`)
    and nearest sessions (VMIS-kNN), which learn every event once, and go on with that as they serve."""
    popularity: PopularityConfig = PopularityConfig()
    """Of the model `popularity`."""
    markov: MarkovConfig = MarkovConfig()
    """Of the model `markov`."""
    session_knn: SessionKNNConfig = SessionKNNConfig()
    """Of the model `session-knn`."""
    mf: FactorsSettings = FactorsSettings()
    """Of the model `mf`."""
    catalogue: CatalogueName = DEFAULT_CATALOGUE
    """The catalogue whose interactions are learned from."""
    cleaning: CleaningSettings = CleaningSettings()
    """What is left out of what was read."""
    min_events: int = Field(default=50, ge=2)
    """With fewer usable events nothing is trained."""
    validation_fraction: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the events, by time, that decides when the fit stops: the newest before the test part."""
    test_fraction: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the events, by time, that the model is measured on: the newest."""
    embedding_dim: int = Field(default=64, ge=1)
    hidden_dim: int = Field(default=128, ge=1)
    """Of the recurrent state; in `sasrec`, of the feed-forward layers."""
    n_layers: int = Field(default=2, ge=1)
    """Of the models that stack layers: `lru`, `sasrec`."""
    n_heads: int = Field(default=2, ge=1)
    """Of attention, in `sasrec`; `embedding_dim` must be a multiple of twice as many."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    item_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the items in a window that training blanks out whole, so that no target hangs on one of them alone."""
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
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    """How long Adam remembers how large gradients were; those of rare items are mostly zero. The code of
    SASRec has 0.98; on Amazon Beauty, whose items are many and rare, that was better on validation."""
    loss: Literal["softmax", "bpr", "bce", "gbce"] = "softmax"
    """Cross-entropy over the catalogue, pairs (BPR), binary cross-entropy, or that calibrated for its few negatives."""
    n_negatives: int = Field(default=4096, ge=1)
    """Items that the targets of a batch are compared with; softmax compares with all where there are no more."""
    seen_negatives: bool | None = None
    """Whether items that stand before a target in its window are negatives, too. If it is not said, only where lists
    may hold them; a worker's never do."""
    negatives_power: float = Field(default=0.0, ge=0, le=1)
    """Softmax's negatives are drawn in proportion to how often they are targets, to this power; 0 draws all alike."""
    gbce_calibration: float = Field(default=0.75, ge=0, le=1)
    """Of `gbce`: how far it is corrected."""
    archive: Path | Literal["off"] | None = None
    """Folder of the archive, into which what is new in the topic is read; `off` reads the whole topic each time.
    Default: `archive` among the bundles."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """How often the state of a fit is kept, so that a run that is killed can be taken up; needs the archive."""
    keep_bundles: Annotated[int, Field(ge=1)] | Literal["all"] = 10
    """How many bundles of each model name stay in the folder after a run, beside the serving one and its previous."""
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    """Where a model is fitted; it always serves on the processor. Only there a run that was taken up ends with the same
    weights to the bit."""
    threads: int = Field(default=1, ge=1)
    """Processors for the fit. The steps of a GRU are small: on two processors a second one gained nothing."""

    @model_validator(mode="before")
    @classmethod
    def _with_the_model_s_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {**_DEFAULTS.get(str(given.get("model")), {}), **given}

    @model_validator(mode="after")
    def _something_left_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError("validation_fraction and test_fraction leave less than a fifth to train on")
        return self

    @model_validator(mode="after")
    def _heads_of_pairs(self) -> Self:
        if self.model == "sasrec" and self.embedding_dim % (2 * self.n_heads):
            raise ValueError(f"embedding_dim must be a multiple of {2 * self.n_heads}, twice n_heads, for sasrec")
        return self


class GateSettings(BaseModel):
    """Whether a new model takes the place of the one that serves. See `trainer.gate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """Off, every model that was trained is announced."""
    metric: Literal["recall@10", "ndcg@10", "mrr@10"] = "ndcg@10"
    """What the two models are compared by."""
    rule: Literal["unless_worse", "if_not_worse"] = "unless_worse"
    """Promoted unless it is shown to be worse, or only if it is shown not to be."""
    tolerance: float = Field(default=0.02, ge=0, lt=1)
    """Share of the serving model's figure that may be lost."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """Of the interval around the difference."""
    min_queries: int = Field(default=200, ge=1)
    """With fewer next events that neither model has learned, they are not compared."""
    min_users: int = Field(default=20, ge=2)
    """With fewer users whose events these are, neither: the interval is one over users."""
    if_not_comparable: Literal["promote", "reject"] = "promote"
    """What becomes of a new model that cannot be compared with the serving one."""
