"""What `streamrec models` prints of bundles, with and without a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoders.records import BundleReference
from streams.cli.model_tables import entry_as_json, list_as_json, model_lines, models_lines, notes
from tests.bundles import announced, sealed, write_model
from trainer.gate import Comparison, Verdict
from trainer.registry import LogInNumbers, ModelReport, Registry

REJECTED = Verdict(
    outcome="rejected",
    reason="it is worse",
    serving="v0",
    comparison=Comparison(
        metric="ndcg@10",
        candidate=0.1,
        serving=0.2,
        difference=-0.1,
        low=-0.11,
        high=-0.09,
        confidence=0.95,
        n_queries=500,
        n_users=40,
    ),
    warnings=("it is below popularity; see [trainer]",),
)


@pytest.fixture
def old(tmp_path: Path) -> BundleReference:
    """Without a report."""
    return write_model(tmp_path, seed=1)


@pytest.fixture
def new(tmp_path: Path, old: BundleReference) -> BundleReference:
    reference = sealed(write_model(tmp_path, seed=2), metrics={"ndcg@10": 0.12345, "popularity_ndcg@10": 0.2})
    report = ModelReport(
        verdict=REJECTED,
        metrics={},
        log=LogInNumbers(n_records=1_100, n_events=1_000, n_users=70, n_items=40, dropped={"repeated": 100}),
        settings={"seed": 3},
        best_epoch=4,
        seconds={"fit": 12.345},
    )
    (Path(reference.uri) / "report.json").write_text(report.model_dump_json())
    return reference


def test_the_list_has_a_line_for_each_and_dashes_for_what_is_not_known(
    tmp_path: Path, old: BundleReference, new: BundleReference
) -> None:
    updates = {"gru": announced(old)}
    heading, *lines = [line.split() for line in models_lines(Registry.read(tmp_path), updates, "ndcg@10")]
    assert heading == ["version", "model", "kind", "created", "(UTC)", "items", "ndcg@10", "popularity", "gate", "now"]
    moments = [["2026-11-22", "10:15"], ["2026-11-22", "10:15"]]
    assert lines == [
        [new.version, "gru", "gru", *moments[0], "40", "0.1235", "0.2000", "rejected"],
        [old.version, "gru", "gru", *moments[1], "40", "-", "-", "-", "serving"],
    ]


def test_a_model_is_told_with_its_comparison_and_its_warnings(tmp_path: Path, new: BundleReference) -> None:
    lines = model_lines(Registry.read(tmp_path).find(new.version), None)
    assert lines[0] == f"gru {new.version}, not announced"
    said = "\n".join(lines)
    for part in (
        "gate: ndcg@10 0.1000 against 0.2000 of v0, difference -0.1000 (95 % interval -0.1100 to -0.0900)",
        "gate: rejected: it is worse",
        "warning: it is below popularity; see [trainer]",
        "trained on 1,000 events of 70 users and 40 items; left out of 1,100 records (repeated 100)",
        "best epoch 4; seconds (fit 12.35)",
        'settings {"seed": 3}',
    ):
        assert part in said


def test_one_without_a_report_says_so(tmp_path: Path, old: BundleReference) -> None:
    lines = model_lines(Registry.read(tmp_path).find(old.version), "previous")
    assert (lines[0], lines[-1]) == (f"gru {old.version}, previous", "there is no report of the run that made it")


def test_what_serves_from_elsewhere_or_not_at_all_and_what_is_damaged_is_noted(
    tmp_path: Path, old: BundleReference, new: BundleReference
) -> None:
    elsewhere = BundleReference(version="far", uri="/far", manifest_sha256="0" * 64)
    (Path(new.uri) / "manifest.json").write_text("{")
    registry = Registry.read(tmp_path)
    assert notes(registry, {"other": announced(elsewhere)}) == [
        "other far serves from /far, which is not among these bundles",
        "no model 'gru' is announced",
        f"{new.version} is damaged: {registry.damaged[new.version]}",
    ]
    assert notes(registry, {"gru": announced(old)})[:-1] == []


def test_json_has_all_of_it(tmp_path: Path, old: BundleReference, new: BundleReference) -> None:
    registry = Registry.read(tmp_path)
    listed = list_as_json(registry, {"gru": announced(old, previous=new)})
    assert [(b["version"], b["verdict"], b["role"]) for b in listed["bundles"]] == [
        (new.version, "rejected", "previous"),
        (old.version, None, "serving"),
    ]
    assert listed["announced"]["gru"]["previous"]["version"] == new.version
    shown = entry_as_json(registry.find(new.version), None)
    assert shown["report"]["verdict"]["comparison"]["n_queries"] == 500
    assert shown["manifest"]["metrics"]["ndcg@10"] == 0.12345
