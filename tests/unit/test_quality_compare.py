"""Models on a data set: how they are asked, what is refused, and what the result says."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.rankers import Silent, Telling
from trainer.errors import ContenderError, DatasetError
from trainer.evaluation import EvaluationSet, read_set
from trainer.evaluation.report import markdown
from trainer.evaluation.sets import SplitBy
from trainer.evaluation.summary import Result, with_new_items
from trainer.quality.compare import Entrant, compare, entrants
from trainer.quality.contenders import Configuration, FileSettings, read_configuration
from trainer.quality.models import Workshop

HEADER = "user_id,item_id,timestamp,event_type,value\n"


def data_set(folder: Path, rows: list[tuple[int, int, str]]) -> EvaluationSet:
    """Sessions: session, item, and the label; time is the row's number."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"s{session},i{item},{n},view,{label}\n" for n, (session, item, label) in enumerate(rows))
    (folder / "events.csv.gz").write_bytes(gzip.compress((HEADER + lines).encode()))
    return read_set(folder)


def steps(label: str, sessions: range, new: int = 0) -> list[tuple[int, int, str]]:
    """Sessions in which the next item number follows; the first ``new`` of them end with an item of their own."""
    rows = [(s, (3 * s + i) % 9, label) for s in sessions for i in range(4)]
    return [*rows, *((s, 100 + s, label) for s in sessions[:new])]


@pytest.fixture
def shop(tmp_path: Path) -> EvaluationSet:
    """Asked as its paper does, since it has the name."""
    return data_set(tmp_path / "serenade-sample", [*steps("train", range(12)), *steps("test", range(12, 20), new=2)])


def run(
    data: EvaluationSet,
    *names: str,
    live: bool | None = None,
    settings: FileSettings | None = None,
    report: Silent | None = None,
) -> Result:
    settings, running = settings or FileSettings(), entrants(Configuration().pick(names), [0])
    return compare(data, settings, running, Workshop(None, 0.25, Silent()), report or Silent(), live=live)


def test_models_stand_beside_each_other_with_their_cost(shop: EvaluationSet) -> None:
    result = run(shop, "popularity", "markov")
    assert list(result["models"]) == ["popularity", "markov"]
    assert result["models"]["markov"]["figures"]["mrr@5"]["mean"] > 0.9
    assert result["differences"][0]["figures"]["mrr@5"]["mean"] > 0.5
    assert result["models"]["markov"]["fit"]["n_targets"] == 48
    assert result["protocol"] == "sessions, asked for the test part, newest 50, anything listed"


def test_live_figures_are_of_the_queries_that_others_are_asked_and_new_items_apart(shop: EvaluationSet) -> None:
    frozen, live = run(shop, "markov"), run(shop, "markov", live=True)
    assert live["n_queries"] == frozen["n_queries"] == 24
    assert live["n_queries_with_new_items"] == 26
    model = live["models"]["markov"]
    assert model["figures_with_new_items"]["mrr@5"]["mean"] < model["figures"]["mrr@5"]["mean"]
    assert "n_queries_with_new_items" not in frozen


@pytest.mark.parametrize(("split", "n_frozen", "n_alike"), [("global-time", 16, 16), ("global-time-last", 9, 8)])
def test_what_validation_has_first_is_new_to_the_test_part_too(
    tmp_path: Path, split: SplitBy, n_frozen: int, n_alike: int
) -> None:
    """One item comes first in the validation part: whoever drops it there does not know it in the test part either."""
    rows = [(n % 9, n // 9 % 5, "") for n in range(178)]
    rows[150] = rows[165] = rows[177] = (0, 77, "")
    data, settings = data_set(tmp_path / "shop", rows), FileSettings(split=split)
    frozen, live = run(data, "markov", settings=settings), run(data, "markov", settings=settings, live=True)
    assert (frozen["n_queries"], live["n_queries"]) == (n_frozen, n_alike)
    assert live["n_queries_with_new_items"] > n_alike


def test_figures_with_new_items_are_told_beside_the_others(shop: EvaluationSet) -> None:
    frozen, live = run(shop, "markov"), run(shop, "markov", "popularity", live=True)
    assert with_new_items(frozen) is None
    whole = with_new_items(live)
    assert whole is not None
    assert whole["models"]["markov"]["figures"] == live["models"]["markov"]["figures_with_new_items"]
    assert whole["differences"][0]["figures"]["mrr@5"] != live["differences"][0]["figures"]["mrr@5"]
    assert "26 queries" in markdown(live)
    assert "new items" not in markdown(frozen)


def test_a_file_may_say_what_is_listed_and_how_windows_are_cut(shop: EvaluationSet) -> None:
    settings = FileSettings(excluded="seen", windows="served")
    assert run(shop, "markov", settings=settings)["protocol"].endswith(
        "windows as served, all but what was seen listed"
    )


def test_models_are_asked_side_by_side_with_what_each_may_not_list(tmp_path: Path) -> None:
    """Users come back to the item that they had just now, and to ones that they had before."""
    rows = [(s, i, label) for s, label in enumerate(12 * ["train"] + 4 * ["test"]) for i in (1, 2, 2, 3, 1, 4, 5, 5, 4)]
    shop = data_set(tmp_path / "serenade-sample", rows)
    running = entrants(Configuration().pick(["markov"]), [0], ["none", "last", "seen"])
    result = compare(shop, FileSettings(), running, Workshop(None, 0.25, Silent()), Silent())
    for which in ("none", "last", "seen"):
        alone = run(shop, "markov", settings=FileSettings(excluded=which))
        assert result["models"][f"markov@{which}"]["figures"] == alone["models"]["markov"]["figures"]
    none, last, seen = (model["figures"]["recall@5"]["mean"] for model in result["models"].values())
    assert none > last > seen
    assert result["protocol"].endswith("all but what each says listed")


def test_one_choice_of_what_may_not_be_listed_names_nobody_anew(shop: EvaluationSet) -> None:
    (markov,) = entrants(Configuration().pick(["markov"]), [0], ["last"])
    assert (markov.label, markov.excluded) == ("markov", "last")
    result = compare(shop, FileSettings(), [markov], Workshop(None, 0.25, Silent()), Silent())
    assert result["protocol"].endswith("all but the last item listed")


def test_a_fit_knows_what_may_not_be_listed(shop: EvaluationSet, tmp_path: Path) -> None:
    """What is seen is a negative only where it may be listed, so weights differ."""
    path = tmp_path / "c.toml"
    path.write_text("[gru]\nmax_epochs = 1\nembedding_dim = 4\nhidden_dim = 4")
    running = entrants(read_configuration(path).pick(["gru"]), [0], ["none", "seen"])
    compare(shop, FileSettings(), running, Workshop(tmp_path / "fits", 0.25, Silent()), Silent())
    assert len(list((tmp_path / "fits").glob("gru-*.safetensors"))) == 2


def test_a_validation_part_of_new_items_only_is_not_replaced_by_another(tmp_path: Path) -> None:
    rows = [*steps("train", range(12)), *((20 + n, 50, "valid") for n in (0, 0, 1, 1)), *steps("test", range(30, 34))]
    running = entrants(Configuration().pick(["markov"]), [0])
    data = data_set(tmp_path / "serenade-sample", rows)
    with pytest.raises(
        DatasetError, match="nothing can be asked of the validation part: all items of the part are new"
    ):
        compare(data, FileSettings(), running, Workshop(None, 0.25, Silent()), Silent(), "validation")


def test_one_user_is_too_few_where_others_never_enter_a_window(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    lines = "".join(
        f"{u},i{n % 4},{n},{kind},\n" for n in range(20) for u, kind in (("a", "view"), ("b", "impression"))
    )
    (tmp_path / "shop" / "events.csv").write_text(HEADER + lines)
    with pytest.raises(DatasetError, match="events of one user only"):
        run(read_set(tmp_path / "shop"), "markov", settings=FileSettings(windows="served"))


def test_an_encoder_says_what_a_step_costs_and_a_seed_more_is_a_model_more(shop: EvaluationSet, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[gru]\nmax_epochs = 1\nembedding_dim = 4\nhidden_dim = 4\n[popularity]")
    running = entrants(read_configuration(path).pick(["gru", "popularity"]), [0, 5])
    result = compare(shop, FileSettings(), running, Workshop(None, 0.1, Silent()), Silent())
    assert list(result["models"]) == ["gru@0", "gru@5", "popularity"]
    assert result["models"]["gru@5"]["fit"]["us_per_step"] > 0
    assert "us_per_step" not in result["models"]["popularity"]["fit"]


def test_a_part_with_new_items_only_has_figures_where_it_is_asked_live(tmp_path: Path) -> None:
    """Every session is of items that only the one before it had: known since just now, and new to the training."""
    rows = [*steps("train", range(12)), *((20 + s, 100 + i, "test") for s in range(2) for i in range(4))]
    data, report = data_set(tmp_path / "serenade-sample", rows), Telling()
    result = run(data, "markov", live=True, report=report)
    (said,) = report.said
    assert said.startswith("serenade-sample: the training part has none of the items of the test part")
    assert result["n_queries"] == 6
    assert result["models"]["markov"]["figures"]["recall@5"]["mean"] == 0.5
    with pytest.raises(DatasetError, match="nothing can be asked"):
        run(data, "markov")


def test_members_of_a_blend_that_is_asked_live_have_not_learned_what_they_are_asked(tmp_path: Path) -> None:
    """No step comes twice, so sequential rules that know the next one have been told."""
    rows = [(s, (i * (s + 1)) % 13, "train" if s < 10 else "test") for s in range(12) for i in range(4)]
    path = tmp_path / "c.toml"
    path.write_text('[both]\nmodel = "blend"\nmembers = ["markov", "popularity"]\nweights = [1.0, 0.0]\n[markov]')
    running = entrants(read_configuration(path).pick(["both", "markov"]), [0])
    data = data_set(tmp_path / "serenade-sample", rows)
    workshop = Workshop(None, 0.25, Silent())
    result = compare(data, FileSettings(validation_fraction=0.3), running, workshop, Silent(), "validation", live=True)
    both, markov = (result["models"][name]["figures"]["recall@5"]["mean"] for name in ("both", "markov"))
    assert both == markov < 0.5


def test_what_cannot_be_replayed_is_refused_before_a_model_is_made(tmp_path: Path) -> None:
    lines = "".join(f"u{u},i{(u + i) % 7},,view,\n" for u in range(6) for i in range(4))
    (tmp_path / "events.csv").write_text(HEADER + lines)
    report = Silent()
    with pytest.raises(DatasetError, match="whose event came first"):
        compare(
            read_set(tmp_path), FileSettings(), entrants(Configuration().pick(["gru"]), [0]),
            Workshop(None, 0.25, report), report, live=True,
        )  # fmt: skip
    assert report.told == []


def test_a_period_of_new_items_only_is_said_to_count_apart(tmp_path: Path) -> None:
    """Of three periods the last has sessions of items that nobody has had before."""
    rows = [*steps("0", range(6)), *steps("1", range(6, 12)), *((s, 100 + s, "2") for s in (20, 20, 21, 21))]
    report = Telling()
    result = run(data_set(tmp_path / "diginetica-ader", rows), "popularity", live=True, report=report)
    assert report.said == ["period 2: asked for new items only, so in the figures with new items alone"]
    assert (result["n_queries"], result["n_queries_with_new_items"]) == (18, 20)


def test_models_that_are_live_are_not_compared_with_those_that_are_not(shop: EvaluationSet, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[markov]\n[now]\nmodel = "markov"\nlive = true')
    running = [Entrant(contender) for contender in read_configuration(path).pick(["markov", "now"])]
    with pytest.raises(ContenderError, match="now is to be asked live, the others not"):
        compare(shop, FileSettings(), running, Workshop(None, 0.1, Silent()), Silent())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, "train"), (0, 1, "test")], "has events of one user only"),
        ([(0, 0, "train"), (1, 0, "test")], "has events of one item only"),
        ([(0, 0, "train"), (1, 1, "train")], "sessions are split by the labels"),
        (
            [(0, 0, "train"), (0, 1, "train"), (1, 1, "test")],
            "of the test part: nobody in the part has an event before",
        ),
    ],
    ids=["one user", "one item", "no test part", "no pair in the test part"],
)
def test_a_data_set_that_cannot_be_asked_is_refused(
    tmp_path: Path, rows: list[tuple[int, int, str]], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        run(data_set(tmp_path / "serenade-sample", rows), "popularity")
