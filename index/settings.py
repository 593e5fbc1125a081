"""Settings of the index: section `[index]` of `streamrec.toml`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class IndexSettings(BaseModel):
    """How item vectors are searched. The trainer builds the index; a worker takes what the bundle holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto", "flat", "ivf_flat", "ivf_sq8", "hnsw"] = "auto"
    """`auto` compares all items of a small catalogue and searches compressed lists of a large one."""
    target_recall: float = Field(default=0.95, gt=0, le=1)
    """Share of the exact best `k` items to find; the index is tuned to the least effort that does."""
    k: int = Field(default=10, ge=1)
    """How many answers that is about. Lists longer than this deserve a larger one."""
