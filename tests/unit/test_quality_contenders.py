"""Models by name from TOML: what is set, and what is refused with file, table and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoders.markov import MarkovConfig
from encoders.session_knn import SessionKNNConfig
from trainer.errors import ContenderError
from trainer.quality.contenders import (
    CONFIGS,
    FIT_KEYS,
    BlendConfig,
    Configuration,
    Contender,
    FileSettings,
    PlainPopularityConfig,
    committed,
    read_configuration,
)
from trainer.settings import TrainerSettings


def read(tmp_path: Path, text: str) -> Configuration:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return read_configuration(path)


def one(tmp_path: Path, text: str, name: str) -> Contender:
    return read(tmp_path, text).tables[name]


def test_a_table_is_the_model_of_its_name_with_its_keys(tmp_path: Path) -> None:
    knn = one(tmp_path, "[session-knn]\nlists_last_item = true", "session-knn")
    assert (knn.model, knn.config) == ("session-knn", SessionKNNConfig(lists_last_item=True))


def test_a_table_of_another_name_says_its_model(tmp_path: Path) -> None:
    short = one(tmp_path, '[short]\nmodel = "markov"\nmax_distance = 2\nlive = true', "short")
    assert (short.name, short.model, short.config, short.live) == (
        "short",
        "markov",
        MarkovConfig(max_distance=2),
        True,
    )


def test_what_an_encoder_does_not_say_is_the_default_of_its_kind(tmp_path: Path) -> None:
    config = one(tmp_path, "[lru]\nmax_epochs = 3", "lru").config
    assert config == TrainerSettings.model_validate({"model": "lru", "max_epochs": 3})


def test_keys_of_a_fit_are_keys_of_the_trainer() -> None:
    assert set(TrainerSettings.model_fields) >= FIT_KEYS


def test_a_blend_has_its_members_tables_or_models_as_they_are(tmp_path: Path) -> None:
    text = '[both]\nmodel = "blend"\nmembers = ["short", "popularity"]\n[short]\nmodel = "markov"\nmax_distance = 2'
    both = one(tmp_path, text, "both")
    assert [member.config for member in both.members] == [MarkovConfig(max_distance=2), PlainPopularityConfig()]


def test_a_blend_depends_on_the_seed_if_a_member_does(tmp_path: Path) -> None:
    text = '[a]\nmodel = "blend"\nmembers = ["gru", "markov"]\n[b]\nmodel = "blend"\nmembers = ["popularity", "markov"]'
    configuration = read(tmp_path, text)
    assert [configuration.tables[name].is_seeded for name in "ab"] == [True, False]


def test_what_stands_before_the_tables_is_of_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, 'windows = "served"\nexcluded = "none"\nseeds = [4]\n[gru]').settings
    assert settings == FileSettings(windows="served", excluded="none", seeds=(4,))


def test_models_without_a_table_are_as_they_are() -> None:
    markov, gru = Configuration().pick(["markov", "gru"])
    assert (markov.config, gru.config) == (MarkovConfig(), TrainerSettings(model="gru"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gru", "shop.toml is not TOML"),
        ("speed = 1", "shop.toml, before the tables: there is no key 'speed'; there are excluded, seeds"),
        ('windows = "wide"', "before the tables: windows: Input should be 'paper' or 'served'"),
        ("[grus]", r"shop.toml, \[grus\]: there is no model 'grus'; `model` is one of popularity, markov"),
        ('[x]\nmodel = "y"', r"\[x\]: there is no model 'y'"),
        ("[sasrec]\nlerning_rate = 1", r"\[sasrec\]: there is no key 'lerning_rate'; there are adam_beta2, batch_size"),
        ("[sasrec]\npatience = 2", r"\[sasrec\]: there is no key 'patience'"),
        ("[sasrec]\nseed = 2", r"\[sasrec\]: there is no key 'seed'"),
        ("[session-knn]\nn_recent = 0", r"\[session-knn\]: n_recent: Input should be greater than or equal to 1"),
        ("[sasrec]\nembedding_dim = 6", r"\[sasrec\]: .*multiple of 4"),
        ("[markov]\nlive = 1", r"\[markov\]: live is true or false, not 1"),
        ('[blend]\nmembers = ["gru"]', r"\[blend\]: members: .*at least 2"),
        ('[blend]\nmembers = ["gru", "nn"]', r"\[blend\], members: there is no model 'nn'; there are"),
        ('[blend]\nmembers = ["gru", "blend"]', r"\[blend\], members: a member of a blend is no blend"),
        ('[blend]\nmembers = ["gru", "lru"]\nweights = [1]', r"\[blend\]: .*2 members and 1 weights"),
        ('[blend]\nmembers = ["gru", "lru"]\nweights = [0, 0]', r"\[blend\]: .*not all 0"),
        ('[blend]\nmembers = ["gru", "lru"]\nweights = [nan, inf]', r"\[blend\]: .*weights are finite"),
        ('[blend]\nmembers = ["gru", "lru"]\nweights = [1, inf]', r"\[blend\]: .*weights are finite"),
    ],
)
def test_what_is_wrong_is_said_with_file_table_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ContenderError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match=r"cannot read .*nothing.toml: No such file"):
        read_configuration(tmp_path / "nothing.toml")


def test_a_blend_without_a_table_is_told_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match=r"shop.toml: a blend needs a table .* such as \[both\]"):
        read(tmp_path, "[gru]").pick(["blend"])


def test_a_model_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    configuration = read(tmp_path, '[short]\nmodel = "markov"')
    with pytest.raises(ContenderError, match=r"shop.toml: there is no model 'nn'; there are short, popularity"):
        configuration.pick(["nn"])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "blend"])
def test_a_configuration_says_all_that_decides_a_models_answers(name: str) -> None:
    (contender,) = Configuration().pick([name])
    said = contender.configuration
    assert said["model"] == name
    assert said.items() >= {k: v for k, v in contender.config.model_dump(mode="json").items() if k in said}.items()
    assert "patience" not in said


def test_a_blends_configuration_holds_those_of_its_members(tmp_path: Path) -> None:
    both = one(tmp_path, '[both]\nmodel = "blend"\nmembers = ["markov", "popularity"]', "both")
    assert isinstance(both.config, BlendConfig)
    assert both.configuration["members"]["markov"]["max_distance"] == 10


def test_every_committed_configuration_can_be_read() -> None:
    path = committed("sasrec-ml-1m")
    assert path is not None
    names = [other.stem for other in path.parent.glob("*.toml") if read_configuration(other).tables]
    assert len(names) >= 6
    assert committed("nothing") is None
