"""Contenders as models: what they learn from, and how a blend's weights come about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders.blend import LiveBlend
from encoders.live_encoder import LiveEncoder
from encoders.markov import Markov
from tests.logs import make_log
from tests.rankers import Silent, Telling
from trainer.errors import DatasetError
from trainer.evaluation.protocols import held_out, leave_one_out, sessions
from trainer.evaluation.queries import Crop
from trainer.evaluation.run import FullScores
from trainer.quality.contenders import Configuration, Contender, read_configuration
from trainer.quality.models import Ready, Workshop

STEPS = make_log([(u, (3 * u + i) % 9, 20 * u + i) for u in range(30) for i in range(4)])
"""Thirty sessions: whatever comes, the next item number follows."""
EXAM = sessions(STEPS, np.where(STEPS.user_codes < 24, "train", "test"), Crop(4))


def contender(tmp_path: Path, text: str) -> Contender:
    path = tmp_path / "c.toml"
    path.write_text(text)
    *_, last = read_configuration(path).tables.values()
    return last


def plain(name: str) -> Contender:
    return Configuration().pick([name])[0]


def best(ready: Ready, *window: int) -> int:
    return int(ready.answers.retrieve(np.array([window]), 1)[0][0, 0])


@pytest.mark.parametrize("name", ["markov", "session-knn"])
def test_a_retriever_learns_the_training_part(name: str) -> None:
    ready = Workshop(None, 0.1, Silent()).make(plain(name), EXAM, 0)
    assert best(ready, 0, 5) == 6
    assert ready.cost.n_targets == 24 * 4
    assert ready.ranked is ready.answers


def test_factors_learn_the_training_part_and_are_ranked_by_all_their_scores(tmp_path: Path) -> None:
    chosen = contender(tmp_path, "[mf]\nembedding_dim = 8\nregularization = 1\nn_iterations = 5")
    assert chosen.is_seeded
    ready, other = (Workshop(None, 0.1, Silent()).make(chosen, EXAM, seed) for seed in (0, 1))
    assert isinstance(ready.ranked, FullScores)
    assert ready.encoder is not None
    assert other.encoder is not None
    assert ready.encoder.item_vectors.shape == (10, 8)
    assert not np.array_equal(ready.encoder.item_vectors, other.encoder.item_vectors)
    assert ready.cost.n_targets == 5 * 24 * 4
    assert best(ready, 0, 5) in (4, 5, 6, 7)  # the only ones that anybody has beside it


def test_factors_that_are_asked_live_take_up_items_that_came_after_their_training(tmp_path: Path) -> None:
    """Item 5 comes with the validation part only, behind 2, and everybody is then asked for it."""
    log = make_log([(u, i, 10 * u + i) for u in range(9) for i in (0, 1, 2)] + [(8, 4, 83), (8, 3, 84)])
    exam = leave_one_out(log, Crop(4))
    ready = Workshop(None, 0.1, Silent()).make(contender(tmp_path, "[mf]\nembedding_dim = 4"), exam, 0, live=True)
    assert isinstance(ready.answers, LiveEncoder)
    assert 5 in ready.answers.retrieve(np.array([[1, 2]]), 9)[0]


def test_a_model_that_is_asked_live_learns_all_before_the_part() -> None:
    """With the last item of each user as test and the one before as validation, item 4 follows 3 only in that."""
    exam = leave_one_out(make_log([(u, i, 10 * u + i) for u in range(4) for i in range(5)]), Crop(4))
    frozen, live = (Workshop(None, 0.1, Silent()).make(plain("markov"), exam, 0, live=live) for live in (False, True))
    assert (best(frozen, 3), best(live, 3)) == (0, 4)


def test_an_encoder_that_is_asked_live_takes_up_items_that_came_after_its_training(tmp_path: Path) -> None:
    """Item 5 comes with the validation part only, behind 2, and everybody is then asked for it."""
    log = make_log([(u, i, 10 * u + i) for u in range(9) for i in (0, 1, 2)] + [(8, 4, 83), (8, 3, 84)])
    exam = leave_one_out(log, Crop(4))
    text = "[gru]\nmax_epochs = 1\nembedding_dim = 4\nhidden_dim = 4"
    ready = Workshop(None, 0.1, Silent()).make(contender(tmp_path, text), exam, 0, live=True)
    assert isinstance(ready.answers, LiveEncoder)
    there = ready.answers.retrieve(np.array([[1, 2]]), 9)[0]
    assert 5 in there
    assert 4 not in there  # that is asked for
    ready.answers.learn(np.array([3, 3]), np.array([1, 4]), np.zeros(2))
    assert 4 in ready.answers.retrieve(np.array([[1, 2]]), 9)[0]


def test_an_encoder_that_is_asked_live_has_not_seen_the_part_that_it_is_asked(tmp_path: Path) -> None:
    """Item 4 comes in the validation part, 5 in the test part."""
    log = make_log([(u, i, 10 * u + i) for u in range(4) for i in (0, 1, 2)] + [(3, 3, 33), (3, 4, 34)])
    one = contender(tmp_path, "[gru]\nmax_epochs = 1\nembedding_dim = 4\nhidden_dim = 4")
    for part, there in (("validation", {1, 2, 3}), ("test", {1, 2, 3, 4})):
        ready = Workshop(None, 0.1, Silent()).make(one, leave_one_out(log, Crop(4)), 0, part, live=True)
        assert set(ready.answers.retrieve(np.array([[1, 2]]), 5)[0][0].tolist()) - {0} == there


def test_the_members_of_a_blend_that_is_asked_live_are_live_and_of_its_seed(tmp_path: Path) -> None:
    text = """
        [gru]
        max_epochs = 1
        embedding_dim = 4
        hidden_dim = 4
        [b]
        model = "blend"
        members = ["gru", "markov"]
        weights = [1, 1]
    """
    made = [Workshop(None, 0.1, Silent()).make(contender(tmp_path, text), EXAM, seed, live=True) for seed in (0, 1)]
    lists = []
    for ready in made:
        assert isinstance(ready.answers, LiveBlend)
        gru, markov = ready.answers.members
        assert isinstance(gru, LiveEncoder)
        assert isinstance(markov, Markov)
        lists.append(gru.retrieve(np.array([[1, 2]]), 9)[1])
    assert not np.allclose(*lists)


def test_popularity_decays_where_it_is_told_to(tmp_path: Path) -> None:
    log = make_log([(0, 0, 0), (1, 0, 1), (2, 1, 100), (2, 2, 101), (2, 2, 101)])
    exam = sessions(log, np.array(["train"] * 3 + ["test"] * 2), Crop(4), drop_unknown=False)
    decaying = contender(tmp_path, "[popularity]\nhalf_life_s = 5")
    made = [Workshop(None, 0.1, Silent()).make(one, exam, 0) for one in (plain("popularity"), decaying)]
    assert [best(ready, 1) for ready in made] == [1, 2]


def test_an_encoder_is_ranked_by_all_scores_and_blended_by_its_best(tmp_path: Path) -> None:
    text = "[gru]\nmax_epochs = 1\nembedding_dim = 4\nhidden_dim = 4"
    ready = Workshop(None, 0.1, Silent()).make(contender(tmp_path, text), EXAM, 0)
    scores = ready.encoder.encode(np.array([[1, 2]]))[1] @ ready.encoder.item_vectors.T
    assert best(ready, 1, 2) == 1 + int(np.argmax(scores[0, 1:]))
    assert ready.ranked is not ready.answers


def test_weights_that_are_given_are_taken(tmp_path: Path) -> None:
    text = '[b]\nmodel = "blend"\nmembers = ["popularity", "markov"]\nweights = [0, 2]'
    ready = Workshop(None, 0.1, Silent()).make(contender(tmp_path, text), EXAM, 0)
    assert (best(ready, 5), ready.weights) == (6, (0, 2))


def test_weights_are_learned_on_the_newest_training_sessions(tmp_path: Path) -> None:
    """Popularity knows nothing of what follows, so it gets no weight."""
    report = Telling()
    blended = contender(tmp_path, '[b]\nmodel = "blend"\nmembers = ["popularity", "markov"]')
    ready = Workshop(None, 0.25, report).make(blended, EXAM, 0)
    assert ready.weights[1] > ready.weights[0]
    assert report.said[0] == "sessions: learning the weights of b"
    assert ready.cost.n_targets == 2 * (24 + 18) * 4  # both members, for the test and for their weights


def test_weights_that_were_learned_on_the_part_that_is_asked_are_said_to_flatter(tmp_path: Path) -> None:
    report = Telling()
    blended = contender(tmp_path, '[b]\nmodel = "blend"\nmembers = ["popularity", "markov"]')
    ready = Workshop(None, 0.25, report).make(blended, held_out(EXAM, 0.25), 0, "validation")
    assert report.said[0].endswith("learning the weights of b; it is asked the same part, which flatters it")
    assert ready.cost.n_targets == 2 * 18 * 4  # the members that are asked are those that were weighed


def test_what_may_not_be_listed_counts_nothing_for_the_weights(tmp_path: Path) -> None:
    """Everyone comes back to the last item, which may not be listed: all weights are the same."""
    log = make_log([(u, u % 3, 10 * u + i) for u in range(12) for i in range(3)])
    exam = sessions(log, np.where(log.user_codes < 9, "train", "test"), Crop(4), "last")
    blended = contender(tmp_path, '[b]\nmodel = "blend"\nmembers = ["popularity", "markov"]')
    assert Workshop(None, 0.34, Telling()).make(blended, exam, 0).weights == (0.5, 0.5)


def test_weights_cannot_be_learned_where_nothing_validates(tmp_path: Path) -> None:
    blended = contender(tmp_path, '[b]\nmodel = "blend"\nmembers = ["popularity", "markov"]')
    log = make_log([(0, 0, 1), (1, 0, 2), (2, 0, 3), (2, 0, 4)])
    exam = sessions(log, np.array(["train", "train", "test", "test"]), Crop(4))
    with pytest.raises(DatasetError, match="the validation part asks nothing"):
        Workshop(None, 0.4, Telling()).make(blended, exam, 0)
