"""A benchmark's figures as tables for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streams.cli.bench.benchmark import Figures
from streams.cli.bench.report import shown


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers.

    Example:
        >>> print(markdown(("load", "p50"), [("10 %", "1.2")]))
        | load | p50 |
        |---|--:|
        | 10 % | 1.2 |
        <BLANKLINE>
    """
    rule = "|".join(["---", *("--:" for _ in header[1:])])
    lines = [" | ".join(header), *(" | ".join(row) for row in rows)]
    head, *body = [f"| {line} |" for line in lines]
    return "\n".join([head, f"|{rule}|", *body]) + "\n"


NOT_YET = "not measured yet"
"""For a figure that older files do not have."""


def cell(figures: Figures, key: str, otherwise: str = "–") -> str:
    """A figure for a table; a dash, or what is given for it, where it was not measured."""
    return shown(figures[key]) if key in figures else otherwise


_COMPARED = ("send", "search_own", "search_faiss")
"""What is measured beside the parts of the limit."""
Table = tuple[Sequence[str], list[Sequence[str]]]
"""Header and rows."""


def throughput_tables(figures: Figures) -> list[Table]:
    """Ours beside the peers and the limit, how far rounds are apart, and the stages of a batch."""
    rows: list[Sequence[str]] = [
        ("**streamrec**", cell(figures, "events_per_s"), cell(figures, "cpu_us_per_event"), "1")
    ]
    for name in peers(figures):
        rows.append(
            (
                name,
                cell(figures, f"{name}_events_per_s"),
                cell(figures, f"{name}_cpu_us_per_event"),
                cell(figures, f"ratio_to_{name}"),
            )
        )
    parts: list[Sequence[str]] = [
        (f"{part} (not in the sum)" if part in _COMPARED else part, cell(figures, f"limit_us_{part}"))
        for part in suffixes(figures, "limit_us_")
    ]
    shares: list[Sequence[str]] = []
    if "share_of_limit" in figures:
        ends = (cell(figures, f"share_of_limit_{end}", NOT_YET) for end in ("min", "max"))
        shares.append(("`share_of_limit`", cell(figures, "share_of_limit"), *ends))
    if "limit_us" in figures:
        rows.append(("limit", "–", cell(figures, "limit_us"), "–"))
    stages: list[Sequence[str]] = [
        (stage, cell(figures, f"stage_us_{stage}")) for stage in suffixes(figures, "stage_us_")
    ]
    return [
        (("one process", "events/s", "CPU, µs an event", "streamrec is faster by"), rows),
        (("of all rounds", "median", "least", "most"), shares),
        (("part of the limit", "CPU, µs an event"), parts),
        (("stage of a worker's batch", "µs an event"), stages),
    ]


def peers(figures: Figures) -> list[str]:
    """The peers that were measured."""
    return [key.removeprefix("ratio_to_") for key in figures if key.startswith("ratio_to_")]


ALONE = {"echo": "aiokafka", "broker": "the broker"}
"""What latency is measured of without a worker."""


def latency_tables(figures: Figures) -> list[Table]:
    """One row for each load."""
    rows: list[Sequence[str]] = []
    for percent in suffixes(figures, "p50_ms_at_"):
        keys = ("events_per_s", "p50_ms", "p95_ms", "p99_ms", "max_ms", "send_lag_p99_ms")
        rows.append((f"{percent} %", *(cell(figures, f"{key}_at_{percent}") for key in keys)))
        for alone in ("echo", "broker"):
            if f"{alone}_p50_ms_at_{percent}" in figures:
                times = (cell(figures, f"{alone}_{key}_at_{percent}") for key in keys)
                rows.append((f"{percent} %, {ALONE[alone]} alone", *times))
    header = (
        "load",
        "events/s",
        "p50, ms",
        "p95, ms",
        "p99, ms",
        "longest, ms",
        "generator late, p99, ms",
    )
    return [(header, rows)]


CATALOGUE_COLUMNS = {
    "items": "items",
    "top_n": "top",
    "load": "clicks",
    "index": "index",
    "recall": "recall",
    "build_s": "build, s",
    "index_mb": "index, MB",
    "events_per_s": "events/s",
    "cpu_us_per_event": "CPU, µs an event",
    "rss_mb": "worker, MB",
}
INDEX_COLUMNS = {
    "recall": "recall",
    "search_us": "search alone, CPU µs",
    "build_s": "build, s",
    "index_mb": "index, MB",
}


def catalogue_tables(figures: Figures) -> list[Table]:
    """One row for each catalogue; then one for each kind of index that was tried on it."""
    names = [key.removesuffix("_events_per_s") for key in figures if key.endswith("_events_per_s")]
    served: list[Sequence[str]] = []
    tried: list[Sequence[str]] = []
    for name in names:
        served.append((name, *(cell(figures, f"{name}_{column}") for column in CATALOGUE_COLUMNS)))
        chosen = cell(figures, f"{name}_index")
        cells = (cell(figures, f"{name}_{column}") for column in INDEX_COLUMNS)
        tried.append((f"{name}, **{chosen}**", _effort(figures, f"{name}_", chosen), *cells))
        for key in suffixes(figures, f"{name}_"):
            if (kind := key.removesuffix("_recall")) != key:
                cells = (cell(figures, f"{name}_{kind}_{column}") for column in INDEX_COLUMNS)
                tried.append((f"{name}, {kind}", _effort(figures, f"{name}_{kind}_", kind), *cells))
    return [
        (("catalogue", *CATALOGUE_COLUMNS.values()), served),
        (("index, **chosen**", "tuned to", *INDEX_COLUMNS.values()), tried),
    ]


def _effort(figures: Figures, prefix: str, kind: str) -> str:
    """How much of an index its searches look at, by the name that the kind has for it."""
    name = "ef_search" if kind == "hnsw" else "nprobe" if kind.startswith("ivf") else ""
    return f"{name} {cell(figures, prefix + name, NOT_YET)}" if name else "–"


def history_tables(figures: Figures) -> list[Table]:
    """One row for each length of the past, one for each window."""
    stored = ("session_bytes", "user_bytes", "user_memory_bytes")
    profiled = [key.removesuffix("_us_10") for key in figures if key.endswith("_us_10")]
    pasts: list[Sequence[str]] = [
        (
            shown(int(past)),
            cell(figures, f"cpu_us_per_event_{past}"),
            cell(figures, f"events_per_s_{past}"),
            *(cell(figures, f"{stage}_us_{past}") for stage in profiled),
        )
        for past in suffixes(figures, "cpu_us_per_event_")
    ]
    windows: list[Sequence[str]] = [
        (window, *(cell(figures, f"{key}_window_{window}") for key in stored))
        for window in suffixes(figures, "session_bytes_window_")
    ]
    return [
        (("past events", "CPU, µs an event", "events/s", *(f"`{stage}`, µs" for stage in profiled)), pasts),
        (("window", "session, bytes", "with `seen` beside it, bytes", "MEMORY USAGE of both keys, bytes"), windows),
    ]


def workers_tables(figures: Figures) -> list[Table]:
    """One row for each number of workers; then what an event costs on four beside one."""
    return [
        (
            ("workers", "CPU of all, µs an event", "events/s", "events in a batch"),
            [
                (
                    count,
                    cell(figures, f"cpu_us_per_event_{count}"),
                    cell(figures, f"events_per_s_{count}"),
                    cell(figures, f"batch_events_{count}", NOT_YET),
                )
                for count in suffixes(figures, "cpu_us_per_event_")
            ],
        ),
        (("figure", "measured"), [("`cpu_ratio_4_to_1`", cell(figures, "cpu_ratio_4_to_1", NOT_YET))]),
    ]


def reload_tables(figures: Figures) -> list[Table]:
    """Under what load, and before and during the swap."""
    rows = [
        ("longest time without a list, ms", "longest_gap_before_ms", "longest_gap_ms"),
        ("publish to receipt, p99, ms", "p99_ms_before", "p99_ms_during"),
        ("the worker's memory, at its most during, MB", "rss_mb_before", "rss_mb_peak"),
        ("announcement to first list, s", "", "seconds_to_swap"),
    ]
    return [
        (("load, events/s", "items"), [(cell(figures, "events_per_s"), cell(figures, "items"))]),
        (
            ("", "before", "during"),
            [(what, cell(figures, before), cell(figures, during)) for what, before, during in rows],
        ),
    ]


TABLES: dict[str, Callable[[Figures], list[Table]]] = {
    "throughput": throughput_tables,
    "latency": latency_tables,
    "catalogue": catalogue_tables,
    "history": history_tables,
    "workers": workers_tables,
    "reload": reload_tables,
}


def suffixes(figures: Figures, prefix: str) -> list[str]:
    """What stands behind a prefix, in the order of the figures.

    Example:
        >>> suffixes({"p50_ms_at_10": 1.0, "p50_ms_at_50": 2.0, "lost": 0}, "p50_ms_at_")
        ['10', '50']
    """
    return [key.removeprefix(prefix) for key in figures if key.startswith(prefix)]
