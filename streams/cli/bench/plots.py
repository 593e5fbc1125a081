"""A benchmark's figures as a plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.cli.bench.benchmark import Figures
from streams.cli.bench.errors import BenchError
from streams.cli.bench.tables import peers, suffixes

_COLOURS = {"streamrec": "#2166ac", "limit": "#999999"}
_OTHER_COLOUR = "#b2b2b2"
Draw = Callable[[Any, Figures], None]
"""Draws into one matplotlib axes."""


def draw_plot(path: Path, name: str, figures: Figures) -> Path | None:
    """Draw a benchmark's plot into a file; None if it has no plot.

    Raises:
        BenchError: If matplotlib is not installed.
    """
    draw = PLOTS.get(name)
    if draw is None:
        return None
    try:
        import matplotlib
    except ImportError:
        raise BenchError("plots need matplotlib: pip install 'streamrec[bench]'") from None

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    draw(axes, figures)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return path


def _plot_throughput(axes: Any, figures: Figures) -> None:
    bars = {"streamrec": float(figures["cpu_us_per_event"])}
    bars |= {name: float(figures[f"{name}_cpu_us_per_event"]) for name in peers(figures)}
    if "limit_us" in figures:
        bars["limit"] = float(figures["limit_us"])
    names = list(reversed(bars))
    drawn = axes.barh(names, [bars[n] for n in names], color=[_COLOURS.get(n, _OTHER_COLOUR) for n in names])
    axes.bar_label(drawn, fmt="%.0f", padding=3)
    axes.set_xlabel("CPU time of the process, µs an event (shorter is better)")


def _plot_latency(axes: Any, figures: Figures) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    loads = suffixes(figures, "p50_ms_at_")
    for p in ("p50", "p95", "p99"):
        (line,) = axes.plot(
            [int(load) for load in loads], [float(figures[f"{p}_ms_at_{load}"]) for load in loads], "o-", label=p
        )
        for load in suffixes(figures, f"echo_{p}_ms_at_"):
            alone = float(figures[f"echo_{p}_ms_at_{load}"])
            axes.plot([int(load)], [alone], "x", color=line.get_color(), label=f"{p}, aiokafka alone")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks([int(load) for load in loads], [f"{load} %" for load in loads])
    axes.set_xlabel("load, of the throughput")
    axes.set_ylabel("publish to receipt, ms")
    axes.legend(frameon=False)


def _plot_catalogue(axes: Any, figures: Figures) -> None:
    names = [key.removesuffix("_events_per_s") for key in figures if key.endswith("_events_per_s")]
    drawn = axes.bar(names, [float(figures[f"{name}_events_per_s"]) for name in names], color=_COLOURS["streamrec"])
    axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
    axes.set_xlabel("catalogue")
    axes.set_ylabel("events/s")


def _plot_history(axes: Any, figures: Figures) -> None:
    pasts = suffixes(figures, "cpu_us_per_event_")
    axes.plot(pasts, [float(figures[f"cpu_us_per_event_{past}"]) for past in pasts], "o-", color=_COLOURS["streamrec"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("past events of the user")
    axes.set_ylabel("CPU, µs an event")


def _plot_workers(axes: Any, figures: Figures) -> None:
    counts = suffixes(figures, "cpu_us_per_event_")
    drawn = axes.bar(counts, [float(figures[f"cpu_us_per_event_{n}"]) for n in counts], color=_COLOURS["streamrec"])
    axes.bar_label(drawn, fmt="%.1f", padding=3)
    axes.set_xlabel("workers")
    axes.set_ylabel("CPU of all, µs an event")


PLOTS: dict[str, Draw] = {
    "throughput": _plot_throughput,
    "latency": _plot_latency,
    "catalogue": _plot_catalogue,
    "history": _plot_history,
    "workers": _plot_workers,
}
