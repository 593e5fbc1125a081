"""Cells: which there are, which are to be run, and the page that is drawn from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.cli.cell_processes import next_free
from trainer.errors import ContenderError
from trainer.quality.cells import Cell, all_cells, chosen, left_s, read_cell, run_cell, write_cell
from trainer.quality.goals import Goal, Goals, Published, read_goals
from trainer.quality.page import draw_page

MOVIES = '[popularity]\n[gru]\n[both]\nmodel = "blend"\nmembers = ["popularity", "markov"]'
SHOP = 'seeds = [7]\n[gru]\n[gru-live]\nmodel = "gru"\nlive = true'


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    folder = tmp_path / "configurations"
    folder.mkdir()
    (folder / "movies.toml").write_text(MOVIES)
    (folder / "shop.toml").write_text(SHOP)
    return all_cells(folder)


def names(cells: list[Cell]) -> list[str]:
    return [cell.name for cell in cells]


def figures_of(cell: Cell, value: float, **more: Any) -> dict[str, Any]:
    """A cell's file with the same value for two figures."""
    figure = {"mean": value, "low": value - 0.01, "high": value + 0.01}
    return {
        "configuration": cell.configuration,
        "figures": {"ndcg@10": figure, "recall@10": figure, "mrr@20": figure, "recall@20": figure},
        "fit": {"cpu_s": 60.0},
        "us_per_query": 12.0,
        "protocol": "asked",
        "n_queries": 1_000,
        "environment": {"cpu": "a CPU", "cores": 2, "commit": "abc"},
        **more,
    }


def test_a_model_has_a_cell_for_each_seed_if_chance_has_a_part_in_it(cells: list[Cell]) -> None:
    movies = ["movies--popularity--0", *(f"movies--gru--{seed}" for seed in range(3)), "movies--both--0"]
    assert names(cells) == [*movies, "shop--gru--7", "shop--gru-live--7"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], 7),
        (["shop"], 2),
        (["gru"], 4),
        (["movies", "gru"], 3),
        (["movies", "shop", "gru", "popularity"], 5),
    ],
)
def test_words_choose_data_sets_and_models(cells: list[Cell], words: list[str], found: int) -> None:
    assert len(chosen(cells, words)) == found


def test_seeds_choose_among_them(cells: list[Cell]) -> None:
    assert names(chosen(cells, ["movies"], [0, 2])) == [
        *("movies--popularity--0", "movies--gru--0", "movies--gru--2", "movies--both--0")
    ]
    with pytest.raises(ContenderError, match="no cell has seed 7; there are 0, 1, 2"):
        chosen(cells, ["movies"], [7])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["films"], "no data set or model 'films'; there are movies, shop and both, gru, gru-live, popularity"),
        (["shop", "popularity"], "no cell is of popularity and shop"),
    ],
)
def test_words_that_choose_nothing_are_refused(cells: list[Cell], words: list[str], message: str) -> None:
    with pytest.raises(ContenderError, match=message):
        chosen(cells, words)


def test_a_cell_is_read_back_only_with_the_configuration_that_it_was_run_with(
    cells: list[Cell], tmp_path: Path
) -> None:
    cell, other = cells[0], cells[1]
    assert read_cell(tmp_path, cell) is None
    write_cell(tmp_path, cell, figures_of(cell, 0.2))
    assert read_cell(tmp_path, cell) == figures_of(cell, 0.2)
    write_cell(tmp_path, cell, figures_of(other, 0.2))
    assert read_cell(tmp_path, cell) is None


def test_a_damaged_file_is_said(cells: list[Cell], tmp_path: Path) -> None:
    (tmp_path / "movies--popularity--0.json").write_text("{")
    with pytest.raises(ContenderError, match=r"movies--popularity--0.json is damaged"):
        read_cell(tmp_path, cells[0])


def test_cells_take_as_long_as_their_model_did(cells: list[Cell]) -> None:
    popularity, gru_0, gru_1, gru_2, both, *_ = cells
    took_s = {popularity: 2.0, gru_0: 10.0}
    assert left_s([gru_1], {}) is None
    assert left_s([gru_1, gru_2, both], took_s) is None
    assert left_s([gru_1, gru_2], took_s) == 20
    assert left_s([gru_1, gru_2], took_s, {gru_1: 4.0}) == 16
    assert left_s([gru_1, gru_2], took_s, {gru_1: 40.0}) == 10


def test_of_cells_that_need_the_same_fit_only_one_is_run_at_once(tmp_path: Path) -> None:
    """A blend needs its members' fits, with its own seed."""
    (tmp_path / "films.toml").write_text(
        'seeds = [0, 1]\n[markov]\n[gru]\n[lru]\n[both]\nmodel = "blend"\nmembers = ["gru", "markov"]'
    )
    markov, gru_0, gru_1, lru_0, _, both_0, both_1 = all_cells(tmp_path)
    assert markov.fits == frozenset()
    assert both_0.fits == gru_0.fits != gru_1.fits
    assert next_free([both_0, both_1, gru_1], [markov, gru_0, lru_0]) == both_1
    assert next_free([both_0], [gru_0]) is None
    assert next_free([both_0], [gru_1]) == both_0


def test_a_fit_is_the_same_whether_its_model_is_asked_live_or_not(tmp_path: Path) -> None:
    (tmp_path / "films.toml").write_text('seeds = [0]\n[gru]\n[gru-live]\nmodel = "gru"\nlive = true')
    gru, gru_live = all_cells(tmp_path)
    assert gru.fits == gru_live.fits


def test_a_disk_that_takes_no_cell_is_said_and_nothing_is_left(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ContenderError, match=r"cannot write .*movies--popularity--0.json: No space left on device"):
        write_cell(tmp_path / "cells", cells[0], figures_of(cells[0], 0.2))
    assert not list((tmp_path / "cells").iterdir())


def test_a_cell_holds_all_that_is_known_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = tmp_path / "serenade-sample"
    shop.mkdir()
    labels = ["train"] * 8 + ["test"] * 4
    rows = "".join(f"s{n // 2},i{n % 2},{n},view,{label}\n" for n, label in enumerate(labels))
    (shop / "events.csv").write_text(f"user_id,item_id,timestamp,event_type,value\n{rows}")
    (tmp_path / "serenade-sample.toml").write_text("[markov]")
    monkeypatch.setenv("STREAMREC_DATA", str(tmp_path))
    (cell,) = all_cells(tmp_path)
    figures = run_cell(cell, None, _Deaf())
    assert (figures["data"], figures["model"], figures["seed"]) == ("serenade-sample", "markov", 0)
    assert figures["figures"]["recall@5"]["mean"] == 1
    assert figures["configuration"]["max_distance"] == 10
    assert figures["fit"]["n_targets"] == 8
    assert json.loads(json.dumps(figures)) == figures


class _Deaf:
    def say(self, text: str) -> None:
        pass

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        pass


GOALS = Goals(
    tolerance=0.03,
    goal=(Goal(data="movies", figures={"ndcg@10": 0.2}, aim={"ndcg@10": 0.25}),),
    published=(Published(data="movies", name="GRU4Rec", model="gru", figures={"ndcg@10": 0.19, "recall@10": 0.3}),),
)
PAGE = """# Models

<!-- run: clock -->
<!-- end -->

<!-- figures: movies -->
old
<!-- end -->

<!-- figures: shop -->
<!-- end -->
Prose.
<!-- figures: shop live -->
<!-- end -->
"""


def drawn(cells: list[Cell], folder: Path, text: str = PAGE) -> str:
    page = folder / "models.md"
    page.write_text(text)
    draw_page(page, folder, cells, GOALS)
    return page.read_text()


def test_a_row_is_the_mean_of_its_seeds_beside_what_was_published(cells: list[Cell], tmp_path: Path) -> None:
    for cell, value in zip(cells[1:3], (0.18, 0.20), strict=True):
        write_cell(tmp_path, cell, figures_of(cell, value))
    text = drawn(cells, tmp_path)
    assert "| `gru` | .1900 [.1800, .2000] | .1900 [.1800, .2000] | 2 of 3 | 60 s | 12 | **no** |" in text
    assert "| GRU4Rec | .1900 | .3000 |" in text
    assert "Goal: ndcg@10 ≥ .2000: **not reached**. Aim: ndcg@10 ≥ .2500: **not reached**." in text
    assert "1,000 queries. a CPU, 2 cores; commit abc." in text
    assert "Prose." in text
    assert "old" not in text


@pytest.mark.parametrize(("value", "near"), [(0.2911, "yes"), (0.2909, "**no**")])
def test_near_its_paper_is_within_the_tolerance_in_every_figure(
    cells: list[Cell], tmp_path: Path, value: float, near: str
) -> None:
    """Three percent below .3 is .291."""
    write_cell(tmp_path, cells[1], figures_of(cells[1], value))
    assert f"| {near} |" in drawn(cells, tmp_path)


def test_a_goal_is_reached_by_those_that_reach_it(cells: list[Cell], tmp_path: Path) -> None:
    for cell, value in zip(cells[:2], (0.2, 0.3), strict=True):
        write_cell(tmp_path, cell, figures_of(cell, value))
    verdict = "Goal: ndcg@10 ≥ .2000: **reached** by `popularity`, `gru`. Aim: ndcg@10 ≥ .2500: **reached** by `gru`."
    assert verdict in drawn(cells, tmp_path)


def test_what_was_not_run_is_said_and_so_is_what_was_run_otherwise(cells: list[Cell], tmp_path: Path) -> None:
    write_cell(tmp_path, cells[0], figures_of(cells[1], 0.3))
    text = drawn(cells, tmp_path)
    assert "| `popularity` | not run | not run | 0 of 1 |" in text
    assert "Goal: ndcg@10 ≥ .2000: not run." in text


def test_how_long_a_run_took_is_drawn_from_its_file(cells: list[Cell], tmp_path: Path) -> None:
    assert "Not run." in drawn(cells, tmp_path)
    run = {"cells": ["a", "b"], "jobs": 2, "wall_s": 1_930.0, "failed": [], "fitted_before": []}
    (tmp_path / "clock.json").write_text(json.dumps(run))
    with pytest.raises(ContenderError, match=r"clock.json is damaged: 'environment'"):
        drawn(cells, tmp_path)
    where = {"cpu": "a CPU", "cores": 2, "commit": "abc"}
    (tmp_path / "clock.json").write_text(json.dumps(run | {"environment": where}))
    line = "`a`, `b`, 2 at once: **32.2 minutes** by the clock (a CPU, 2 cores; commit abc)."
    assert line in drawn(cells, tmp_path)
    run |= {"failed": ["c"], "fitted_before": ["a"], "environment": where}
    (tmp_path / "clock.json").write_text(json.dumps(run))
    line = "by the clock, with fits of an earlier run for `a`, while `c` failed (a CPU"
    assert line in drawn(cells, tmp_path)


def test_a_comparison_is_drawn_from_its_file(cells: list[Cell], tmp_path: Path) -> None:
    text = PAGE.replace("clock", "choice").replace("run:", "result:")
    assert "Not run." in drawn(cells, tmp_path, text)
    figures = {
        figure: {"mean": 0.2, "low": 0.1, "high": 0.3} for figure in ("ndcg@10", "recall@10", "mrr@20", "recall@20")
    }
    models = {"markov@none": {"figures": figures}}
    (tmp_path / "choice.json").write_text(json.dumps({"models": models, "protocol": "asked", "n_queries": 1_000}))
    found = drawn(cells, tmp_path, text)
    assert f"| `markov@none` |{4 * ' .2000 [.1000, .3000] |'}\n" in found
    assert "*asked. 1,000 queries.*" in found
    for damaged, why in (({"models": models}, "'protocol'"), ({"models": []}, "no attribute"), ([], "indices")):
        (tmp_path / "choice.json").write_text(json.dumps(damaged))
        with pytest.raises(ContenderError, match=rf"choice.json is damaged: .*{why}"):
            drawn(cells, tmp_path, text)


def test_a_marker_without_an_end_of_its_own_takes_nothing_with_it(cells: list[Cell], tmp_path: Path) -> None:
    text = PAGE.replace("<!-- run: clock -->\n<!-- end -->", "<!-- run: clock -->\nMore prose.")
    assert "More prose." in drawn(cells, tmp_path, text)


def test_a_page_without_a_place_for_a_data_set_is_refused(cells: list[Cell], tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="no line <!-- figures: shop live -->"):
        drawn(cells, tmp_path, PAGE.replace("shop live", "other"))


def test_every_goal_is_of_a_data_set_that_is_run() -> None:
    run = {(cell.data, cell.contender.live) for cell in all_cells()}
    goals = read_goals()
    assert {(goal.data, goal.live) for goal in goals.goal} <= run
    assert {(each.data, False) for each in goals.published} <= run


def test_the_committed_page_has_a_place_for_every_data_set(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text((Path(__file__).parents[2] / "docs" / "models.md").read_text())
    draw_page(page, tmp_path, all_cells(), read_goals())
    assert "not run" in page.read_text()
