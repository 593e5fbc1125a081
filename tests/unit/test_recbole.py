"""The comparison with RecBole, apart from RecBole: what both are given, how they are judged, what the page says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.rankers import full_scores
from trainer.dataset import TrainingRows
from trainer.errors import RecBoleError
from trainer.evaluation.metrics import rank_metrics
from trainer.evaluation.run import rank_all
from trainer.interactions import Interactions
from trainer.recbole import __main__ as command
from trainer.recbole.contestant import Turn
from trainer.recbole.duel import Effort, insist_on_the_same
from trainer.recbole.judge import Curve, compare, figure, spent_until
from trainer.recbole.ours import settings_of
from trainer.recbole.page import BEGIN, END, draw_page
from trainer.recbole.peer_venv import STAMP, peer_python
from trainer.recbole.stage import first_users, prepare
from trainer.recbole.task import Sizes

SIZES = Sizes.of("gru", n_items=6, peer_learning_rate=0.001)


def log(*histories: Sequence[int]) -> Interactions:
    """Users with their items' codes, one user after another."""
    users = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
    items = np.concatenate([np.array(items, dtype=np.int64) for items in histories])
    n, zeros = int(items.max()) + 1, np.zeros_like(items)
    names = [f"u{user}" for user in range(len(histories))], [f"i{item}" for item in range(n)]
    return Interactions(*names, users, items, np.arange(len(items)), zeros + 2, zeros, np.arange(len(items)))


LOG = log([0, 1, 2, 3, 3], [4, 2, 0, 5])


def curve(seconds: Sequence[float], figures: Sequence[float]) -> Curve:
    """Turns of 100 targets each; a second takes half a second of CPU."""
    return Curve([Turn(100, 1.0, each, each / 2) for each in seconds], list(figures))


def test_both_get_the_same_positions_to_learn(tmp_path: Path) -> None:
    prepare(tmp_path, LOG, SIZES)
    inputs, targets = np.load(tmp_path / "inputs.npy"), np.load(tmp_path / "targets.npy")
    learned = [(int(i), int(t)) for i, t in zip(inputs[targets > 0], targets[targets > 0], strict=True)]
    assert learned == [(1, 2), (2, 3), (5, 3)]
    # RecBole makes a row of every event but a user's first, and leaves the last two of each out.
    rows = np.loadtxt(tmp_path / "log" / "log.inter", skiprows=1, dtype=int)
    assert rows.tolist() == [
        [0, 1, 0],
        [0, 2, 1],
        [0, 3, 2],
        [0, 4, 3],
        [0, 4, 4],
        [1, 5, 0],
        [1, 3, 1],
        [1, 1, 2],
        [1, 6, 3],
    ]
    assert len(rows) - 3 * 2 == len(learned)


def test_validation_asks_for_the_last_event_but_one_from_what_was_trained_on(tmp_path: Path) -> None:
    queries = prepare(tmp_path, LOG, SIZES)
    assert queries.target_items.tolist() == [4, 1]
    assert [row[row > 0].tolist() for row in np.load(tmp_path / "windows.npy")] == [[1, 2, 3], [5, 3]]


@pytest.mark.parametrize("events", [log([0, 1, 2, 3], [0, 1, 2]), LOG.where(LOG.user_codes > 5)])
def test_a_history_that_the_two_would_split_otherwise_is_refused(events: Interactions, tmp_path: Path) -> None:
    with pytest.raises(RecBoleError, match="at least 4 events"):
        prepare(tmp_path, events, SIZES)


def test_the_first_users_keep_their_events_and_no_item_of_others() -> None:
    kept = first_users(log([7, 2], [7, 5], [3]), 2)
    assert (kept.user_ids, kept.item_ids) == (["u0", "u1"], ["i2", "i5", "i7"])
    assert kept.item_codes.tolist() == [2, 0, 2, 1]


def test_sizes_are_read_as_they_were_written(tmp_path: Path) -> None:
    sizes = Sizes.of("sasrec", 10, 0.003, max_epochs=4)
    sizes.write(tmp_path)
    assert Sizes.read(tmp_path) == sizes


def test_a_step_of_ours_learns_about_as_many_targets_and_all_items_are_negatives() -> None:
    targets = np.zeros((100, 50), dtype=np.int32)
    targets[:, :32] = 1
    settings = settings_of(Sizes.of("sasrec", 5_000, 0.001), TrainingRows(targets, targets))
    assert settings.batch_size * 32 == 2048
    assert (settings.n_negatives, settings.loss) == (5_000, "softmax")
    assert (settings.hidden_dim, settings.n_layers, settings.dropout, settings.max_epochs) == (256, 2, 0.5, 16)


def test_ranking_by_vectors_is_that_of_the_evaluation(tmp_path: Path) -> None:
    queries = prepare(tmp_path, LOG, SIZES)
    scores = np.array([9, 1, 6, 8, 3, 3, 4], dtype=np.float32)
    expected = rank_metrics(rank_all(queries, full_scores(scores), 5).ranks, [10])["ndcg@10"].mean()
    ours = figure(queries, (np.ones((2, 1), dtype=np.float32), scores[:, None]))
    # User 0 had 1, 2, 3, so the target 4 comes after 6; user 1 had 5, 3, so 1 comes after 2, 6 and 4.
    assert ours == pytest.approx(expected) == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / 2)


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    queries = prepare(tmp_path, LOG, SIZES)
    with pytest.raises(ValueError, match="no numbers"):
        figure(queries, (np.full((2, 1), np.nan, dtype=np.float32), np.ones((7, 1), dtype=np.float32)))


def test_a_level_is_reached_at_the_first_turn_that_is_exactly_there() -> None:
    turns, figures = curve([2, 3, 4], [0.1, 0.25, 0.2])
    assert spent_until(turns, figures, 0.25) == (200, 5, 2.5)
    assert spent_until(turns, figures, 0.26) is None


def test_ratios_are_those_of_the_medians_and_the_least_of_the_levels() -> None:
    ours = curve([9, 1, 1, 2], [0.185, 0.195, 0.2, 0.3])
    theirs = curve([5, 10, 10, 30], [0.1, 0.185, 0.195, 0.2])
    found = compare(ours, theirs)
    assert found["targets_per_s_ratio"] == pytest.approx(10)
    # 90 % of 0.2 after 15 s and 9 s, 95 % after 25 and 10, all of it after 55 and 11.
    assert [level["seconds_ratio"] for level in found["levels"]] == pytest.approx([15 / 9, 25 / 10, 55 / 11])
    assert found["seconds_ratio"] == found["cpu_seconds_ratio"] == pytest.approx(15 / 9)


def test_where_we_miss_a_level_there_is_no_ratio() -> None:
    found = compare(curve([1, 1], [0.1, 0.195]), curve([9], [0.2]))
    assert [level["ours"] is None for level in found["levels"]] == [False, False, True]
    assert found["seconds_ratio"] is None


def test_the_peer_ends_when_it_gets_no_better_or_its_time_is_up() -> None:
    effort = Effort(minutes=1, patience=2, max_turns=4)
    assert not effort.is_spent(curve([], []))
    assert not effort.is_spent(curve([1, 1, 1], [0.2, 0.3, 0.2]))
    assert effort.is_spent(curve([1, 1, 1], [0.3, 0.2, 0.3]))
    assert not effort.is_spent(curve([59, 1], [0.1, 0.2]))
    assert effort.is_spent(curve([118, 2], [0.1, 0.2]))
    assert effort.is_spent(curve([1] * 4, [0.1, 0.2, 0.3, 0.4]))


def test_sides_that_learn_another_number_of_targets_are_not_compared() -> None:
    insist_on_the_same(7, 7)
    with pytest.raises(RecBoleError, match="7 target positions in a pass and RecBole 8"):
        insist_on_the_same(7, 8)


class Pip:
    """Runs nothing, and keeps what was to be run."""

    def __init__(self, fails: str = "") -> None:
        self.ran: list[Sequence[str]] = []
        self._fails = fails

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.ran.append(command)
        if self._fails and self._fails in command:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: trying again\nERROR: no network\n\n")
        if "venv" in command:
            Path(command[-1]).mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")


def test_the_venv_is_made_once_and_anew_when_the_requirements_change(tmp_path: Path) -> None:
    requirements, said, pip = tmp_path / "requirements.txt", list[str](), Pip()
    for pins, n_commands in (("a==1", 2), ("a==1", 2), ("a==2", 4)):
        requirements.write_text(pins)
        python = peer_python(said.append, tmp_path / "venv", requirements, pip)
        assert len(pip.ran) == n_commands
    assert python == tmp_path / "venv" / "bin" / "python"
    assert len(said) == 2


def test_without_a_network_the_error_says_what_pip_said_and_the_next_call_tries_again(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1")
    given = tmp_path / "venv", tmp_path / "requirements.txt"
    with pytest.raises(RecBoleError, match=r"pip install .* said: ERROR: no network\. It takes the network"):
        peer_python(lambda _: None, *given, Pip(fails="pip"))
    assert not (tmp_path / "venv" / STAMP).exists()
    peer_python(lambda _: None, *given, again := Pip())
    assert len(again.ran) == 2


def result(ratio: float | None) -> dict[str, object]:
    """A comparison as JSON holds it."""
    ours, theirs = curve([1, 1], [0.1, 0.2]), curve([5, 5], [0.1, 0.15])
    duel = {"sizes": {"peer_learning_rate": 0.005}, "n_targets": 100, **compare(ours, theirs)}
    duel |= {"ours": ours.to_json(), "theirs": {"versions": {"recbole": "1.2.1"}, **theirs.to_json()}}
    environment = {
        "cpu": "a cpu",
        "cores": 2,
        "python": "3.11",
        "version_torch": "2.13",
        "commit": "abc",
        "date": "2026-01-01T00",
    }
    gru = {"targets_per_s_ratio": 5.0, "seconds_ratio": ratio, "duels": [duel]}
    return {"data": "ml-100k", "environment": environment, "models": {"gru": gru}}


@pytest.mark.parametrize(
    ("ratio", "said"), [(2.0, "2.0 | ≥ 2 | yes"), (1.9, "1.9 | ≥ 2 | **no**"), (None, "– | ≥ 2 | **no**")]
)
def test_the_page_says_what_was_reached_and_keeps_its_prose(ratio: float | None, said: str, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "recbole.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    figures.write_text(json.dumps(result(ratio)))
    draw_page(figures, page)
    text = page.read_text()
    assert f"| gru | time to the same ndcg@10, ratio | {said} |" in text
    assert "| gru | 0.005 | 100 | 20 | 5.0 | 5.0 | 0.2000 | 0.1500 (2.0) |" in text
    assert (text[:7], text[-7:]) == ("before\n", "\nafter\n")
    assert "old" not in text
    draw_page(figures, page)
    assert page.read_text() == text


@pytest.mark.parametrize(("page", "figures"), [("no place", "{}"), (f"{BEGIN}\n{END}", "{}"), (f"{BEGIN}\n{END}", "[")])
def test_a_page_without_a_place_or_a_file_without_figures_is_refused(page: str, figures: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page)
    (tmp_path / "figures.json").write_text(figures)
    with pytest.raises(RecBoleError):
        draw_page(tmp_path / "figures.json", tmp_path / "page.md")


@pytest.mark.parametrize(
    "arguments", [["--peer-rates", "0"], ["--minutes", "nan"], ["--epochs", "1.5"], ["--models", "lru"]]
)
def test_an_argument_that_means_nothing_ends_with_its_name(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_an_unknown_data_set_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMREC_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="there is no data set 'nothing'"):
        command.main(["--data", "nothing"])


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="cannot be written"):
        command.main(["--data", "nothing", "--output", str(tmp_path / "file" / "recbole.json")])


def test_a_run_that_fails_leaves_no_empty_figures(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no data set"):
        command.main(["--data", str(tmp_path), "--output", str(tmp_path / "new" / "recbole.json")])
    assert not list((tmp_path / "new").iterdir())
