"""Goals, tables and the page that is drawn from figures."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from streams.cli.bench.benchmark import BENCHMARKS, MADE_UP, Figures, Goal, chosen, lost_events
from streams.cli.bench.errors import BenchError
from streams.cli.bench.performance import draw_page, main
from streams.cli.bench.reload import FULL as RELOAD
from streams.cli.bench.report import shown, table, write_json
from streams.cli.bench.tables import (
    TABLES,
    catalogue_tables,
    history_tables,
    reload_tables,
    throughput_tables,
    workers_tables,
)

PAGE = """# Title

By hand.

<!-- figures: latency -->
old
<!-- end -->

<!-- figures: workers -->
<!-- end -->
"""
ENVIRONMENT: Figures = {
    "cpu": "a CPU", "cores": 2, "python": "3.11", "broker": "tansu 1", "redis": "valkey 2", "commit": "abc",
    "date": "2026-01-02T03:04:05Z",
}  # fmt: skip
NOT_JUDGED = "| – | ≤ 70, aim 50 | not measured: no data set |"
LATENCY: Figures = {
    "events": 1000, "lost": 0, "duplicates": 1,
    **{f"p{p}_ms_at_{load}": p * load / 1000 for load in (10, 50, 80) for p in (50, 95, 99)},
}  # fmt: skip


def test_a_goal_is_reached_at_its_bound() -> None:
    assert Goal("k", ">=", 10).met(10)
    assert not Goal("k", ">=", 10).met(9.99)
    assert Goal("k", "<=", 1.1).met(1.1)
    assert not Goal("k", "<=", 1.1).met(1.11)


def test_a_goal_says_what_it_asks_for() -> None:
    assert str(Goal("k", ">=", 15_000, aim=25_000)) == "≥ 15,000, aim 25,000"


def test_benchmarks_run_in_their_own_order_whatever_is_asked_first() -> None:
    assert [b.name for b in chosen(["workers", "throughput"])] == ["throughput", "workers"]
    assert [b.name for b in chosen([])] == list(BENCHMARKS)


def test_an_unknown_benchmark_is_named_with_those_that_exist() -> None:
    with pytest.raises(BenchError, match=r"no benchmark trouput; there are throughput, latency"):
        chosen(["latency", "trouput"])


def test_events_lost_by_any_process_are_found() -> None:
    assert lost_events({"lost": 0, "naive_lost": 2, "longest_gap_ms": 9.5, "lost_why": "x"}) == {"naive_lost": 2}


def test_every_benchmark_has_tables() -> None:
    assert set(TABLES) == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25012.34, "25,012"),
        (41.279, "41.3"),
        (1.104, "1.104"),
        (0.61234, "0.6123"),
        (7, "7"),
        ("flat", "flat"),
        (0, "0"),
    ],
)
def test_small_figures_are_shown_with_four_digits(value: float | int | str, text: str) -> None:
    assert shown(value) == text


def test_the_table_says_which_goals_were_missed() -> None:
    console = Console(width=120, record=True, file=StringIO())
    console.print(table(BENCHMARKS["latency"], {"p50_ms_at_50": 3.9, "p99_ms_at_50": 16.0, "p99_ms_at_80": 99.0}))
    lines = console.export_text().splitlines()
    assert any("p50_ms_at_50" in line and "≤ 4 reached" in line for line in lines)
    assert any("p99_ms_at_50" in line and "≤ 15 missed" in line for line in lines)
    assert any("p99_ms_at_80" in line and "≤" not in line for line in lines)


def test_peers_and_limit_stand_beside_the_worker() -> None:
    figures: Figures = {
        "events_per_s": 20_000.0, "cpu_us_per_event": 40.0, "naive_events_per_s": 2000.0,
        "naive_cpu_us_per_event": 480.0, "ratio_to_naive": 10.0, "limit_us": 25.0, "limit_us_search": 9.0,
        "limit_us_search_own": 9.0, "stage_us_decode": 2.0,
    }  # fmt: skip
    systems, _, parts, stages = throughput_tables(figures)
    assert [row[0] for row in systems[1]] == ["**streamrec**", "naive", "limit"]
    assert systems[1][1][1:] == ("2,000", "480.0", "10.0")
    assert (parts[1], stages[1]) == ([("search", "9"), ("search_own (not in the sum)", "9")], [("decode", "2")])


def test_the_share_of_the_limit_has_its_range_beside_it() -> None:
    figures: Figures = {"share_of_limit": 0.65}
    assert throughput_tables(figures)[1][1] == [("`share_of_limit`", "0.65", "not measured yet", "not measured yet")]
    figures |= {"share_of_limit_min": 0.59, "share_of_limit_max": 0.71}
    assert throughput_tables(figures)[1][1] == [("`share_of_limit`", "0.65", "0.59", "0.71")]


def test_catalogues_are_rows_and_so_are_the_kinds_of_index_beside_the_chosen_one() -> None:
    figures: Figures = {
        "ml1m_items": 3416, "ml1m_events_per_s": 25_000.0, "ml1m_index": "flat", "ml1m_recall": 1.0,
        "ml1m_hnsw_recall": 0.96, "ml1m_hnsw_search_us": 12.0, "ml1m_hnsw_ef_search": 24, "ml1m_ivf_sq8_recall": 0.97,
        "1m_events_per_s": 4_500.0, "1m_index": "ivf_sq8", "1m_nprobe": 66,
    }  # fmt: skip
    served, tried = catalogue_tables(figures)
    assert [(row[0], row[1], row[4], row[8]) for row in served[1]] == [
        ("ml1m", "3,416", "flat", "25,000"),
        ("1m", "–", "ivf_sq8", "4,500"),
    ]
    assert [row[:3] for row in tried[1]] == [
        ("ml1m, **flat**", "–", "1"),
        ("ml1m, hnsw", "ef_search 24", "0.96"),
        ("ml1m, ivf_sq8", "nprobe not measured yet", "0.97"),
        ("1m, **ivf_sq8**", "nprobe 66", "–"),
    ]
    assert all(len(row) == len(header) for header, rows in (served, tried) for row in rows)


def test_workers_have_what_an_event_costs_on_four_beside_one() -> None:
    figures: Figures = {"cpu_us_per_event_1": 20.0, "cpu_us_per_event_4": 25.0, "batch_events_4": 900.0}
    counts, ratio = workers_tables(figures)
    assert [row[-1] for row in counts[1]] == ["not measured yet", "900.0"]
    assert ratio[1] == [("`cpu_ratio_4_to_1`", "not measured yet")]
    assert workers_tables(figures | {"cpu_ratio_4_to_1": 1.25})[1][1] == [("`cpu_ratio_4_to_1`", "1.25")]


def test_a_reload_has_the_load_under_which_it_happened() -> None:
    load, _ = reload_tables({"events_per_s": 4_000.0, "items": 1_000_000})
    assert load[1] == [("4,000", "1,000,000")]


def test_a_model_of_a_million_items_is_swapped_under_the_load_that_it_is_to_bear() -> None:
    goals = {goal.key: goal.bound for goal in BENCHMARKS["catalogue"].goals}
    assert RELOAD.rate == goals["1m_events_per_s"]


def test_the_page_gets_its_tables_and_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    page, folder = tmp_path / "page.md", tmp_path / "benchmarks"
    page.write_text(PAGE)
    write_json(folder / "latency.json", {"environment": ENVIRONMENT, "latency": LATENCY})
    assert draw_page(folder, page) == ["latency"]
    drawn = page.read_text()
    assert "By hand." in drawn
    assert "old" not in drawn
    assert "| 50 % |" in drawn
    assert "| `p50_ms_at_50` | 2.5 | ≤ 4 | yes |" in drawn
    assert "1,000 events, 0 lost, 1 sent again" in drawn
    assert "![latency](benchmarks/latency.png)" in drawn
    assert (folder / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert draw_page(folder, page) == ["latency"]
    assert page.read_text() == drawn


def test_figures_of_a_given_kafka_have_a_place_of_their_own(tmp_path: Path) -> None:
    page, folder = tmp_path / "page.md", tmp_path / "benchmarks"
    page.write_text(PAGE + "<!-- figures: latency-kafka -->\n<!-- end -->\n")
    for name, p50 in (("latency", 7.0), ("latency-kafka", 3.0)):
        write_json(folder / f"{name}.json", {"environment": ENVIRONMENT, "latency": {**LATENCY, "p50_ms_at_50": p50}})
    assert draw_page(folder, page) == ["latency", "latency-kafka"]
    embedded, _, kafka = page.read_text().partition("<!-- figures: latency-kafka -->")
    assert "| `p50_ms_at_50` | 7 | ≤ 4 | **no** |" in embedded
    assert "| `p50_ms_at_50` | 3 | ≤ 4 | yes |" in kafka
    assert "[latency-kafka.json](benchmarks/latency-kafka.json)" in kafka
    assert "![latency-kafka](benchmarks/latency-kafka.png)" in kafka


def test_the_page_says_at_which_commit_and_when_each_file_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for name, date in (("latency", "2026-01-02T03:04:05Z"), ("workers", "2026-02-03T14:15:16Z")):
        environment = ENVIRONMENT | {"date": date, "commit": name[:3]}
        write_json(tmp_path / f"{name}.json", {"environment": environment, name: LATENCY | {"cpu_us_per_event_1": 2.0}})
    draw_page(tmp_path, page)
    assert "commit lat, 2026-01-02 03:04 UTC" in page.read_text()
    assert "commit wor, 2026-02-03 14:15 UTC" in page.read_text()


def test_figures_of_quick_are_not_drawn(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_json(tmp_path / "latency.json", {"environment": ENVIRONMENT, "latency": LATENCY}, quick=True)
    with pytest.raises(BenchError, match=r"latency\.json holds figures of --quick"):
        draw_page(tmp_path, page)
    assert page.read_text() == PAGE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"latency": {"events": 10', "cannot be read"),
        ("[]", "does not hold figures of latency"),
        ('{"latency": {"events": 10}}', "does not hold figures of latency and their environment"),
        ('{"latency": 3, "environment": {}}', "does not hold figures of latency"),
        ('{"latency": {"lost": 0}, "environment": {}}', "has no 'date'"),
        (json.dumps({"latency": {"p50_ms_at_50": 1.0}, "environment": ENVIRONMENT}), "has no 'p95_ms_at_50'"),
        (json.dumps({"latency": {"p50_ms_at_50": "fast"}, "environment": ENVIRONMENT}), "cannot be drawn: "),
    ],
)
def test_a_damaged_file_is_one_clear_error(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, file = tmp_path / "page.md", tmp_path / "latency.json"
    page.write_text(PAGE)
    file.write_text(content)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), str(page)])
    assert str(ended.value.code).startswith(f"streamrec: {file} ")
    assert words in str(ended.value.code)
    assert f"`streamrec bench latency --output {tmp_path}` writes it anew" in str(ended.value.code)
    assert page.read_text() == PAGE


def test_what_writes_a_damaged_file_anew_is_said_with_the_kafka_that_it_takes(tmp_path: Path) -> None:
    (tmp_path / "latency-kafka.json").write_text("{")
    with pytest.raises(BenchError, match=r"`streamrec bench latency --brokers HOST:PORT --output .*` writes it anew"):
        draw_page(tmp_path, tmp_path / "page.md")


@pytest.mark.parametrize("arguments", [[], ["docs/benchmarks"]])
def test_without_folder_and_page_there_is_a_line_of_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m streams.cli.bench.performance" in capsys.readouterr().err


def test_a_page_that_is_not_there_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "latency.json", {"environment": ENVIRONMENT, "latency": LATENCY})
    with pytest.raises(SystemExit, match=r"streamrec: .*No such file or directory: .*page\.md"):
        main([str(tmp_path), str(tmp_path / "page.md")])


@pytest.mark.parametrize(
    ("load", "verdict"), [("diginetica-ader", "| 80.0 | ≤ 70, aim 50 | **no** |"), (MADE_UP, NOT_JUDGED)]
)
def test_a_data_sets_goal_is_not_judged_on_made_up_clicks(load: str, verdict: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: catalogue -->\n<!-- end -->\n")
    figures: Figures = {
        "diginetica_load": load,
        "diginetica_cpu_us_per_event": 80.0,
        "1m_events_per_s": 5_000.0,
        "1m_recall": 0.96,
    }
    write_json(tmp_path / "catalogue.json", {"environment": ENVIRONMENT, "catalogue": figures})
    draw_page(tmp_path, page)
    assert f"| `diginetica_cpu_us_per_event` {verdict}" in page.read_text()
    assert "| `1m_recall` | 0.96 | ≥ 0.95 | yes |" in page.read_text()
    console = Console(width=120, record=True, file=StringIO())
    console.print(table(BENCHMARKS["catalogue"], figures))
    words = "missed" if load != MADE_UP else "not measured: no data set"
    assert f"≤ 70, aim 50 {words}" in console.export_text()


def test_the_committed_figures_draw_the_committed_page(tmp_path: Path) -> None:
    """Older files have not every figure: the page says so, and is drawn all the same."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    shutil.copytree(docs / "benchmarks", tmp_path / "benchmarks")
    shutil.copy(docs / "performance.md", page := tmp_path / "performance.md")
    draw_page(tmp_path / "benchmarks", page)
    assert page.read_text() == (docs / "performance.md").read_text()


def test_a_page_without_a_place_for_a_benchmark_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_json(tmp_path / "figures" / "reload.json", {"environment": ENVIRONMENT, "reload": {"lost": 0}})
    with pytest.raises(BenchError, match="no place for reload"):
        draw_page(tmp_path / "figures", page)


def test_a_folder_without_figures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"x": 1}))
    with pytest.raises(BenchError, match="no figures in"):
        draw_page(tmp_path, tmp_path / "page.md")


def test_what_stages_take_after_each_past_stands_beside_what_an_event_costs() -> None:
    costs: Figures = {f"cpu_us_per_event_{past}": past / 2 for past in (10, 1000)}
    told: Figures = {f"encode_us_{past}": past / 4 for past in (10, 1000)}
    (header, rows), _ = history_tables(costs | told)
    assert header == ("past events", "CPU, µs an event", "events/s", "`encode`, µs")
    assert rows == [("10", "5", "–", "2.5"), ("1,000", "500.0", "–", "250.0")]
