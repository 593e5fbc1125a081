"""What the size of the catalogue changes: the same worker and encoder over 3 thousand to a million items."""

from __future__ import annotations

import gc
import time
from typing import NamedTuple

import faiss

from encoders.bundle import read_encoder_bundle
from encoders.protocols import FloatArray
from index.build import load_index
from index.protocol import VectorIndex
from index.recall import recall_at_k
from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import CATALOGUES, Catalogue, held_out_queries, make_bundle
from streams.cli.bench.stage import Stage
from streams.cli.bench.throughput import drain_with_worker

HNSW_UP_TO = 100_000
"""Items; beyond, building a graph takes minutes."""
COMPARED = ("ivf_sq8", "hnsw")
"""Kinds of index that are built beside the one that the trainer would choose."""
EFFORTS = ("nlist", "nprobe", "ef_search")
"""Parameters of an index that say how much of it a search looks at."""
SEARCHED_AT_ONCE = 256
MEASURED_WITH = 1
"""Seed of the queries that recall is measured with; the index was tuned with others."""


class Size(NamedTuple):
    """How much is measured."""

    events: int
    queries: int
    most_s: float
    """Where the measured interval of one catalogue ends at the latest."""


FULL, QUICK = Size(200_000, 1_000, 25.0), Size(2_000, 100, 20.0)


def run(stage: Stage) -> Figures:
    """One catalogue after the other, the smallest first."""
    size = QUICK if stage.quick else FULL
    catalogues = {name: stage.catalogue(name) for name in CATALOGUES}
    figures: Figures = {}
    for name, catalogue in catalogues.items():
        figures |= {f"{name}_{key}": value for key, value in _measure(stage, catalogue, size).items()}
    return figures


def _measure(stage: Stage, catalogue: Catalogue, size: Size) -> Figures:
    """One worker drains the catalogue's clicks; then its index is searched alone, beside other kinds."""
    drained = drain_with_worker(stage, catalogue, size.events, size.most_s)
    figures = drained.figures()
    kept = ("events", "lost", "duplicates", "events_per_s", "cpu_us_per_event", "rss_mb")
    measured: Figures = {"items": catalogue.n_items, "top_n": catalogue.top_n, "load": catalogue.load}
    measured |= {key: figures[key] for key in kept}
    measured |= _index_figures(stage, catalogue, "auto", size)
    kinds = COMPARED if catalogue.n_items <= HNSW_UP_TO else ()
    for kind in kinds:
        if kind != measured["index"]:
            others = _index_figures(stage, catalogue, kind, size)
            measured |= {f"{kind}_{key}": value for key, value in others.items() if key != "index"}
    return measured


def _index_figures(stage: Stage, catalogue: Catalogue, kind: str, size: Size) -> Figures:
    """What an index of the catalogue's model finds, takes and costs, in this process alone."""
    update = make_bundle(stage.bundles, catalogue, kind)
    bundle = read_encoder_bundle(update.uri)
    index = load_index(bundle.index_path, bundle.manifest.index.kind)
    queries = held_out_queries(bundle.encoder, catalogue, size.queries, MEASURED_WITH)
    k = catalogue.top_n
    figures: Figures = {
        "index": index.kind,
        "build_s": round(update.metrics["build_s"], 2),
        "index_mb": round(bundle.index_path.stat().st_size / 1e6, 1),
        "recall": round(recall_at_k(index, bundle.item_vectors, queries, k), 4),
        "recall_at_10": round(recall_at_k(index, bundle.item_vectors, queries, 10), 4),
        "search_us": round(search_us(index, queries, k), 2),
    }
    figures |= {key: index.params[key] for key in EFFORTS if key in index.params}
    gc.collect()  # a million items are a gigabyte
    return figures


def search_us(index: VectorIndex, queries: FloatArray, k: int) -> float:
    """CPU time of one query among `SEARCHED_AT_ONCE`, on one thread, in microseconds; the best of three rounds."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        rounds = []
        for _ in range(3):
            began_s = time.process_time()
            for start in range(0, len(queries), SEARCHED_AT_ONCE):
                index.search(queries[start : start + SEARCHED_AT_ONCE], k)
            rounds.append(time.process_time() - began_s)
    finally:
        faiss.omp_set_num_threads(threads)
    return 1e6 * min(rounds) / len(queries)
