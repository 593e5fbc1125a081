"""Figures with their intervals as plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COLOUR, _NO_DIFFERENCE = "#2166ac", "#999999"


def draw_accuracy(result: Mapping[str, Any], figure: str, path: Path) -> Path:
    """Draw one figure of every model, such as ``ndcg@10``, and return the path of the image."""
    names = list(result["models"])
    return _draw(names, [result["models"][name]["figures"][figure] for name in names], figure, path)


def draw_differences(result: Mapping[str, Any], figure: str, path: Path) -> Path:
    """Draw by how much each model is above each other on the same queries, and return the path of the image."""
    pairs = result["differences"]
    names = [f"{pair['model']} over {pair['baseline']}" for pair in pairs]
    return _draw(names, [pair["figures"][figure] for pair in pairs], f"difference in {figure}", path, around_zero=True)


def _draw(
    names: Sequence[str], figures: Sequence[Mapping[str, float]], label: str, path: Path, around_zero: bool = False
) -> Path:
    """Each figure as a point on its interval, one below the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 0.8 + 0.35 * len(names)), layout="constrained")
    axes = drawing.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for row, figure in enumerate(figures):
        unsure = around_zero and figure["low"] <= 0 <= figure["high"]
        colour = _NO_DIFFERENCE if unsure else _COLOUR
        axes.plot([figure["low"], figure["high"]], [row, row], color=colour)
        axes.plot(figure["mean"], row, "o", color=colour)
    if around_zero:
        axes.axvline(0, color="black", linewidth=0.8)
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    drawing.savefig(path, dpi=130, metadata={"Software": None})
    return path
