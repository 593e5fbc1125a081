"""What a training run is to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from encoders.window import WindowRule
from index.settings import IndexSettings
from trainer.cleaning import CleaningRules
from trainer.replay import KafkaSource
from trainer.settings import GateSettings, TrainerSettings


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, from what, and where to put it."""

    source: KafkaSource
    model: str
    bundles: Path
    settings: TrainerSettings
    rules: CleaningRules
    popularity_half_life: timedelta
    index: IndexSettings = field(default_factory=IndexSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    force: bool = False
    """Whether the model is announced whatever the gate says."""
    archive: Path | None = None
    """Where what was read before lies, and checkpoints; without one, the whole topic is read and nothing is kept."""

    @property
    def window_rule(self) -> WindowRule:
        """The rule that windows are cut by."""
        return self.rules.window_rule

    def decisive(self) -> dict[str, Any]:
        """Whatever decides weights and figures beside the interactions, for JSON."""
        return {
            "settings": self.settings.model_dump(
                mode="json", exclude={"archive", "checkpoint_minutes", "keep_bundles"}
            ),
            "gate": self.gate.model_dump(mode="json"),
            "window_rule": self.window_rule.model_dump(mode="json"),
            "catalogue": self.rules.catalogue,
            "max_future_s": self.rules.max_future.total_seconds(),
            "half_life_s": self.popularity_half_life.total_seconds(),
        }
