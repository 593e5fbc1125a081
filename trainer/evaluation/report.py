"""A result as a page: tables in Markdown, plots beside it, and the figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.evaluation.plots import draw_accuracy, draw_differences
from trainer.evaluation.summary import Result, with_new_items

PAGE, FIGURES = "report.md", "result.json"
COLUMNS = {"recall": "recall = hit rate", "precision": "precision", "f1": "F1", "ndcg": "ndcg", "mrr": "mrr"}
"""Figures of the tables, with their headers; with one target a query, recall is the hit rate."""
COMPARED = ("recall", "ndcg", "mrr")
"""Figures whose differences are shown."""
BEYOND: dict[str, tuple[str, Callable[[float], str]]] = {
    "coverage": ("coverage", lambda share: _percent(share, 1)),
    "novelty": ("novelty, bits", "{:.2f}".format),
    "diversity": ("diversity", "{:.3f}".format),
    "popularity": ("interactions of a listed item", "{:,.0f}".format),
    "gini": ("Gini index of exposure", "{:.3f}".format),
}
"""Figures beside accuracy: header, and how one is written."""
FIT = {
    "us_per_step": "µs a step",
    "wall_s": "fit, s",
    "cpu_s": "fit, CPU s",
    "targets_per_s": "targets a second",
}
"""What is told of a model's fit, where it is known: with headers."""


def write_report(result: Result, folder: Path) -> Path:
    """Write page, plots and figures into a folder, which is made if need be.

    Returns:
        The page.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the extra `bench` has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES).write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    shown = _compared_at(result)
    plots = [draw_accuracy(result, f"ndcg@{shown}", folder / "accuracy.png")]
    if result["differences"]:
        plots.append(draw_differences(result, f"ndcg@{shown}", folder / "differences.png"))
    page = folder / PAGE
    page.write_text(markdown(result, [plot.name for plot in plots]))
    return page


def markdown(result: Result, plots: Sequence[str] = ()) -> str:
    """The page's text.

    Args:
        result: As `summarise` gives it, perhaps read back from JSON.
        plots: Paths of images, as seen from the page.
    """
    title = ", ".join(filter(None, (result["dataset"], result["protocol"]))) or "Evaluation"
    level = _percent(result["level"], 0)
    parts = [f"# {title}\n", _about(result)]
    parts += [f"![{Path(plot).stem}]({plot})\n" for plot in plots]
    parts += [f"## At {k}\n\n{_accuracy(result, k)}" for k in _ks(result)]
    if whole := with_new_items(result):
        shown = _compared_at(result)
        parts.append(f"## At {shown}, new items included: {whole['n_queries']:,} queries\n\n{_accuracy(whole, shown)}")
    if result["differences"]:
        shown = _compared_at(result)
        parts.append(f"## Differences at {shown}, on the same queries\n\n{_differences(result, shown)}")
        parts.append(f"Bold: the {level} interval leaves out 0.\n")
    parts += [f"## Beside accuracy\n\n{_beyond(result)}", f"## Cost\n\n{_cost(result)}"]
    return "\n".join(parts)


def _about(result: Result) -> str:
    periods = f" in {result['n_periods']} periods, each counting the same" if result["n_periods"] > 1 else ""
    return (
        f"{result['n_queries']:,} queries of {result['n_users']:,} users{periods}, all of {result['n_items']:,} items "
        f"ranked. In brackets the {_percent(result['level'], 0)} interval of a bootstrap over users "
        f"({result['n_resamples']:,} resamples).\n"
    )


def _accuracy(result: Result, k: int) -> str:
    rows = [
        [name, *(_interval(model["figures"][f"{figure}@{k}"]) for figure in COLUMNS)]
        for name, model in result["models"].items()
    ]
    return _table(["model", *COLUMNS.values()], rows)


def _differences(result: Result, k: int) -> str:
    rows = []
    for pair in result["differences"]:
        cells = [_difference(pair["figures"][f"{figure}@{k}"]) for figure in COMPARED]
        rows.append([f"{pair['model']} over {pair['baseline']}", *cells])
    return _table(["models", *COMPARED], rows)


def _beyond(result: Result) -> str:
    rows, header = [], ["model"]
    for name, model in result["models"].items():
        figures = {figure.split("@")[0]: value for figure, value in model["beyond"].items()}
        there = [figure for figure in BEYOND if figure in figures]
        header = ["model", *(BEYOND[figure][0] for figure in there)]
        rows.append([name, *(BEYOND[figure][1](figures[figure]) for figure in there)])
    return _table(header, rows)


def _cost(result: Result) -> str:
    models: Mapping[str, Any] = result["models"]
    learns = any(model["learning_us_per_query"] for model in models.values())
    columns = {"us_per_query": "µs a query"} | ({"learning_us_per_query": "µs of learning a query"} if learns else {})
    fits = {name: model.get("fit", {}) for name, model in models.items()}
    of_fits = {key: header for key, header in FIT.items() if any(key in fit for fit in fits.values())}
    rows = [
        [
            name,
            *(_amount(model[column]) for column in columns),
            *(_amount(fits[name][key]) if key in fits[name] else "" for key in of_fits),
        ]
        for name, model in models.items()
    ]
    return _table(["model", *columns.values(), *of_fits.values()], rows)


def _ks(result: Result) -> list[int]:
    """Lengths of lists that the result has figures at."""
    figures = next(iter(result["models"].values()))["figures"]
    return [int(figure.removeprefix("ndcg@")) for figure in figures if figure.startswith("ndcg@")]


def _compared_at(result: Result) -> int:
    """The length at which models are compared: 10, where there are figures at 10."""
    ks = _ks(result)
    return 10 if 10 in ks else ks[-1]


def _interval(figure: Mapping[str, float]) -> str:
    """A figure for a table.

    Example:
        >>> _interval({"mean": 0.19304, "low": 0.185, "high": 0.20111})
        '.1930 [.1850, .2011]'
    """
    return "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**figure).replace("0.", ".")


def _difference(figure: Mapping[str, float]) -> str:
    """A difference for a table, bold where it is sure which way it goes.

    Example:
        >>> _difference({"mean": 0.0123, "low": 0.011, "high": 0.0136})
        '**+.0123** [+.0110, +.0136]'
    """
    mean, low, high = (f"{figure[name]:+.4f}".replace("0.", ".") for name in ("mean", "low", "high"))
    sure = figure["low"] > 0 or figure["high"] < 0
    return f"{f'**{mean}**' if sure else mean} [{low}, {high}]"


def _amount(value: float) -> str:
    """A number of any size for a table.

    Example:
        >>> _amount(1234.5), _amount(0.0312)
        ('1,234', '0.031')
    """
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _percent(share: float, digits: int) -> str:
    """A share for a table.

    Example:
        >>> _percent(0.0591, 1)
        '5.9 %'
    """
    return f"{100 * share:.{digits}f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns but the first are numbers."""
    lines = [header, ["---", *("--:" for _ in header[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
