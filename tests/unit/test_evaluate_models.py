"""`streamrec evaluate --models`: what is printed and written, and one clear error for each kind of wrong input."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.comparison import Comparison, Device, ExcludedItems, Part, SplitBy, Windows, compare_models
from streams.cli.errors import NoRoomError
from trainer.errors import ContenderError, DatasetError, TrainerError

HEADER = "user_id,item_id,timestamp,event_type,value\n"
WALKS = "".join(f"u{user},i{(user + step) % 6},{20 * user + step},view,\n" for user in range(20) for step in range(5))


def data_set(folder: Path, rows: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "events.csv").write_text(HEADER + rows)
    return str(folder)


@pytest.fixture
def asked(tmp_path: Path) -> Comparison:
    return Comparison(
        models=["popularity", "markov"],
        data=data_set(tmp_path / "walks", WALKS),
        configuration=None,
        part=Part.TEST,
        split=None,
        windows=None,
        excluded=(),
        live=False,
        seeds=(0,),
        device=Device.CPU,
        fits=tmp_path / "fits",
        output=None,
        json_file=None,
    )


def said(asked: Comparison) -> str:
    text = StringIO()
    compare_models(asked, Console(file=text, width=160))
    return text.getvalue()


def test_what_may_not_be_listed_is_asked_side_by_side(asked: Comparison) -> None:
    text = said(replace(asked, excluded=(ExcludedItems.LAST, ExcludedItems.SEEN)))
    assert "markov@last" in text
    assert "popularity@seen" in text


def test_figures_costs_and_differences_are_printed_and_written(asked: Comparison, tmp_path: Path) -> None:
    text = said(replace(asked, output=tmp_path / "report", json_file=tmp_path / "figures.json"))
    assert "walks, 8 queries: global-time" in text
    assert "ndcg@10, over popularity" in text
    assert "µs a query" in text
    page = (tmp_path / "report" / "report.md").read_text()
    assert "markov over popularity" in page
    assert "| popularity |" in page
    assert list(json.loads((tmp_path / "figures.json").read_text())["models"]) == ["popularity", "markov"]


@pytest.mark.parametrize(
    ("change", "protocol"),
    [
        ({"part": Part.VALIDATION}, "asked for the validation part"),
        ({"live": True}, "asked before each event as it arrives"),
        ({"windows": Windows.SERVED}, "windows as served"),
        ({"split": SplitBy.LEAVE_ONE_OUT}, "20 queries: leave-one-out"),
        ({"split": SplitBy.GLOBAL_TIME_LAST}, "2 queries: global-time-last"),
    ],
)
def test_the_way_models_are_asked_can_be_chosen(asked: Comparison, change: dict[str, object], protocol: str) -> None:
    assert protocol in said(replace(asked, **change))  # type: ignore[arg-type]


def test_who_stops_it_is_told_what_is_kept(asked: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.quality.compare.compare", interrupted)
    text = StringIO()
    with pytest.raises(typer.Exit) as stopped:
        compare_models(asked, Console(file=text, width=160))
    assert stopped.value.exit_code == 130
    assert f"the next run finds in {asked.fits} what was fitted" in text.getvalue()


def test_models_are_set_by_the_file_that_is_given(asked: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[short]\nmodel = "markov"\nmax_distance = 1')
    text = said(replace(asked, models=["short"], configuration=path))
    assert "short" in text
    assert str(path) in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "holds no interactions"),
        ("u,a,1,view,\nu,b,2,view,\nu,c,3,view,\n", "has events of one user only"),
        ("u,a,1,view,\nv,a,2,view,\nw,a,3,view,\n", "has events of one item only"),
        ("u,a,1,view,\nu,b,nan,view,\n", "a timestamp is not a number of seconds: 'nan'"),
    ],
    ids=["empty", "one user", "one item", "NaN"],
)
def test_a_data_set_that_is_none_is_refused(asked: Comparison, tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        said(replace(asked, data=data_set(tmp_path / "none", rows)))


def test_without_an_order_of_arrival_there_is_no_live_replay(asked: Comparison, tmp_path: Path) -> None:
    rows = "".join(f"u{user},i{item},,view,\n" for user in range(3) for item in range(4))
    with pytest.raises(DatasetError, match="a live replay needs to know whose event came first"):
        said(replace(asked, data=data_set(tmp_path / "ordered", rows), live=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": ["nn"]}, ContenderError, "the defaults: there is no model 'nn'; there are popularity, markov"),
        ({"data": "nothing"}, DatasetError, "there is no data set 'nothing'"),
        ({"configuration": Path("nothing.toml")}, ContenderError, r"cannot read nothing.toml"),
    ],
)
def test_a_name_that_there_is_not_is_refused(
    asked: Comparison, change: dict[str, object], error: type[TrainerError], message: str
) -> None:
    with pytest.raises(error, match=message):
        said(replace(asked, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--live"], "--live goes with --models"),
        (["--excluded", "seen"], "--excluded goes with --models"),
        (["--seed", "3"], "--seed goes with --models"),
        (["--part", "validation"], "--part goes with --models"),
        (["--models", "gru"], "--models needs --data"),
        (["--models", "gru", "--data", "x", "--set", "trainer.seed=1"], "--set is of the settings file"),
        (["--models", "gru", "--data", "x", "--current"], "--models are fitted to --data"),
        (["--models", "gru,gru", "--data", "x"], "none twice"),
        (["--models", " ,", "--data", "x"], "names one model or more"),
        (["--models", "gru", "--data", "x", "--part", "train"], "'train' is not one of"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize("option", ["output", "json_file"])
def test_a_place_that_cannot_be_written_to_is_named_before_the_work(
    asked: Comparison, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "below"
    with pytest.raises(NoRoomError, match=r"--(output|json) .*below: figures cannot be written there"):
        compare_models(replace(asked, data="/nowhere", **{option: place}), Console(file=StringIO()))
