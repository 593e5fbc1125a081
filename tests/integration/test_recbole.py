"""Two programs that learn in turns: ours against itself, and against RecBole where its venv was made before."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.unit.test_recbole import log
from trainer.errors import RecBoleError
from trainer.interactions import Interactions
from trainer.recbole.contestant import Contestant, our_command, their_command
from trainer.recbole.duel import Effort, duel
from trainer.recbole.peer_venv import FOLDER, STAMP
from trainer.recbole.stage import prepare
from trainer.recbole.task import Sizes

NEEDS_RECBOLE = pytest.mark.skipif(not (FOLDER / STAMP).is_file(), reason="RecBole's venv: make recbole")
N_ITEMS = 12


def cycles() -> Interactions:
    """Users who go through the items in one order, each beginning elsewhere; the next one is certain."""
    return log(*[[(start + step) % N_ITEMS for step in range(9)] for start in range(N_ITEMS)] * 4)


@pytest.mark.parametrize(
    ("model", "theirs"),
    [
        ("gru", our_command()),
        pytest.param("gru", their_command(FOLDER / "bin" / "python"), marks=NEEDS_RECBOLE),
        pytest.param("sasrec", their_command(FOLDER / "bin" / "python"), marks=NEEDS_RECBOLE),
    ],
    ids=["gru-ours", "gru-recbole", "sasrec-recbole"],
)
def test_both_learn_the_same_in_turns(model: str, theirs: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    sizes = Sizes.of(model, N_ITEMS, peer_learning_rate=0.02, max_epochs=25)
    effort = Effort(max_turns=25, patience=25)
    found = duel(tmp_path, cycles(), sizes, our_command(), theirs, effort, said.append)
    assert found["n_targets"] == 48 * (9 - 3)
    assert found["n_queries"] == 48
    assert [line.split()[0] for line in said[:4]] == ["RecBole", "streamrec"] * 2
    for side in (found["ours"], found["theirs"]):
        assert len(side["turns"]) == 25
        assert all(turn["n_targets"] == found["n_targets"] and turn["seconds"] > 0 for turn in side["turns"])
        # By chance, of the six items that a user has not had: 0.55.
        assert side["best_ndcg@10"] > 0.9
        assert side["turns"][-1]["loss"] < side["turns"][0]["loss"] / 2


def test_a_side_that_fails_says_who_and_why(tmp_path: Path) -> None:
    with pytest.raises(RecBoleError, match=r"theirs failed with exit code 1 and said last: ValueError: broken"):
        Contestant("theirs", [sys.executable, "-c", "raise ValueError('broken')"], tmp_path)


def test_a_side_that_dies_in_its_turn_says_so(tmp_path: Path) -> None:
    program = "import sys; print('{}', flush=True); sys.stdin.readline(); sys.exit('out of memory')"
    with (
        Contestant("theirs", [sys.executable, "-c", program], tmp_path) as side,
        pytest.raises(RecBoleError, match="out of memory"),
    ):
        side.learn()


def test_nothing_runs_once_the_comparison_is_over(tmp_path: Path) -> None:
    prepare(tmp_path, cycles(), Sizes.of("gru", N_ITEMS, 0.02, max_epochs=1_000))
    with Contestant("ours", our_command(), tmp_path) as side:
        assert side.learn() is not None
        queries, items = side.vectors()
        assert (queries.shape, items.shape) == ((48, 64), (N_ITEMS + 1, 64))
        assert np.isfinite(queries).all()
    assert not [child for child in psutil.Process().children() if "trainer.recbole.ours" in child.cmdline()]
