"""Settings: what they accept, where a value comes from, and that no secret is shown."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.config import load_settings, load_with_origins, setting_values
from streams.cli.errors import SettingsError
from streams.durations import format_duration, parse_duration
from streams.settings import KafkaSettings, RedisSettings, TopicNames, WorkerSettings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("STREAMREC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("10s", timedelta(seconds=10)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(hours=24)),
        ("30d", timedelta(days=30)),
        ("1.5h", timedelta(minutes=90)),
        ("90", timedelta(seconds=90)),
        (90, timedelta(seconds=90)),
        (0.5, timedelta(milliseconds=500)),
        (timedelta(days=1), timedelta(days=1)),
    ],
)
def test_duration_is_read_in_every_unit(written: object, meant: timedelta) -> None:
    assert WorkerSettings.model_validate({"max_future": written}).max_future == meant
    assert parse_duration(format_duration(meant)) == meant


@pytest.mark.parametrize("written", ["", "m", "10 weeks", "-5s", "0s", 0, True, None, "nan", float("inf"), "9" * 400])
def test_no_duration_is_made_of_nonsense(written: object) -> None:
    with pytest.raises(ValidationError):
        WorkerSettings.model_validate({"max_future": written})


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streamrec.toml").write_text(
        '[kafka]\npartitions = 3\ngroup_id = "file"\nclient_id = "file"\n[redis]\nsession_ttl = "7d"\n'
    )
    monkeypatch.setenv("STREAMREC_KAFKA__GROUP_ID", "environment")
    monkeypatch.setenv("STREAMREC_KAFKA__CLIENT_ID", "environment")
    settings, origins = load_with_origins(sets=["kafka.client_id=flag"])
    kafka = settings.kafka
    assert (kafka.client_id, kafka.group_id, kafka.partitions, kafka.replication_factor) == (
        "flag",
        "environment",
        3,
        1,
    )
    assert settings.redis.session_ttl == timedelta(days=7)
    assert origins == {
        "kafka.client_id": "flag --set",
        "kafka.group_id": "environment STREAMREC_KAFKA__GROUP_ID",
        "kafka.partitions": "file streamrec.toml",
        "redis.session_ttl": "file streamrec.toml",
    }


def test_named_file_replaces_the_default_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streamrec.toml").write_text("[kafka]\npartitions = 3\n")
    (tmp_path / "flag.toml").write_text("[kafka]\npartitions = 5\n")
    (tmp_path / "environment.toml").write_text("[kafka]\npartitions = 7\n")
    monkeypatch.setenv("STREAMREC_CONFIG", "environment.toml")
    assert load_settings().kafka.partitions == 7
    assert load_settings(Path("flag.toml")).kafka.partitions == 5


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "STREAMREC_KAFKA__BROKERZ",
            "x:1",
            r"kafka\.brokerz \(environment .*BROKERZ\): unknown key; did you mean kafka\.brokers",
        ),
        ("STREAMREC_KAFAK__BROKERS", "x:1", "STREAMREC_KAFAK__BROKERS .*no section kafak; did you mean kafka"),
        ("STREAMREC_KAFKA_BROKERS", "x:1", "STREAMREC_KAFKA_BROKERS .*write STREAMREC_KAFKA__BROKERS"),
        ("STREAMREC_KAFKA__PARTITIONS", "0", r"kafka\.partitions \(environment STREAMREC_KAFKA__PARTITIONS\).*not '0'"),
        ("STREAMREC_KAFKA", "{", "kafka.*JSON"),
    ],
)
def test_wrong_variable_is_refused_by_name(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=says):
        load_settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[kafka]\nbrokerz = 1\n", r"kafka\.brokerz \(file streamrec\.toml\): unknown key"),
        ("[kafak]\nbrokers = 1\n", r"kafak \(file streamrec\.toml\): unknown key; did you mean kafka"),
        ("[model.window]\nmax_lenn = 5\n", r"model\.window\.max_lenn .*did you mean model\.window\.max_len"),
        ("[kafka\n", r"settings file streamrec\.toml cannot be read"),
        ("kafka = 3\n", r"kafka \(file streamrec\.toml\)"),
        ('[kafka]\nbrokers = "nohost"\n', r"kafka\.brokers \(file streamrec\.toml\).*not 'nohost'"),
    ],
)
def test_wrong_file_is_refused_by_key(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "streamrec.toml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_settings()


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(sets=["kafka.partitions=0", "worker.top_n=none", "web.port=70000"])
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        "kafka.partitions",
        "worker.top_n",
        "web.port",
    ]


@pytest.mark.parametrize("flag", ["kafka", "kafka.partitions", "partitions=3", "kafka.topics=[", "kafka.x.y=1"])
def test_flag_of_another_form_is_refused(flag: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(sets=[flag])


def test_missing_named_file_is_an_error_and_missing_default_file_is_not() -> None:
    assert load_settings().kafka.partitions == KafkaSettings().partitions
    with pytest.raises(SettingsError, match=r"absent\.toml does not exist"):
        load_settings(Path("absent.toml"))


def test_credentials_move_out_of_the_url() -> None:
    redis = RedisSettings(url=f"redis://app:{SECRET}%40@example:6380/2")
    assert (redis.url, redis.username) == ("redis://example:6380/2", "app")
    assert redis.password
    assert redis.password.get_secret_value() == f"{SECRET}@"
    assert redis.safe_url == "redis://app:***@example:6380/2"
    options = redis.sync_client().connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("example", 6380, 2)
    assert (options["username"], options["password"]) == ("app", f"{SECRET}@")


def test_password_given_twice_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match="password given twice") as caught:
        load_settings(sets=[f"redis.url=redis://:{SECRET}@h:1", f"redis.password={SECRET}-2"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "sets",
    [
        [f"redis.url=http://:{SECRET}@h:1"],
        [f"redis.url=redis://h:1/0?password={SECRET}"],
        [f"redis.url=redis://me:a#{SECRET}@h:1/0"],
        [f"redis.url=redis://me:{SECRET}@h:99999/0"],
        [f"redis.url=redis://:{SECRET}@h:1", "redis.socket_timeout_s=0"],
        ["kafka.sasl_username=u", f"kafka.sasl_password={SECRET}"],
        ["kafka.sasl_password=" + json.dumps([SECRET])],
        [f"kafka.sasl_passwort={SECRET}"],
    ],
)
def test_no_error_shows_a_secret(sets: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(sets=sets)
    assert SECRET not in str(caught.value)


def test_config_shows_every_setting_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMREC_KAFKA__SASL_PASSWORD", SECRET)
    monkeypatch.setenv("STREAMREC_REDIS__URL", f"redis://:{SECRET}@h:1/0")
    login = ["--set", "kafka.security_protocol=SASL_SSL", "--set", "kafka.sasl_username=u"]
    plain = CliRunner().invoke(app, ["config", "--show", *login])
    as_json = CliRunner().invoke(app, ["config", "--show", "--json", *login])
    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    assert SECRET not in plain.output + as_json.output
    rows = json.loads(as_json.output)
    assert list(rows) == [key for key, _ in setting_values(load_settings(sets=[f for f in login if f != "--set"]))]
    assert rows["kafka.sasl_password"] == {"value": "***", "origin": "environment STREAMREC_KAFKA__SASL_PASSWORD"}
    assert rows["redis.password"] == {"value": "***", "origin": "environment STREAMREC_REDIS__URL"}
    assert rows["redis.session_ttl"] == {"value": "30d", "origin": "default"}
    assert all(key in plain.output for key in rows)


def test_client_configuration_holds_the_password_but_its_repr_does_not() -> None:
    kafka = KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password=SECRET)
    for config in (kafka.kafka_python_config(), kafka.aiokafka_config()):
        assert config["sasl_plain_password"] == SECRET
        assert SECRET not in repr(config) + repr(kafka)


@pytest.mark.parametrize(
    "fields",
    [
        {"security_protocol": "SASL_SSL"},
        {"security_protocol": "SASL_SSL", "sasl_username": "u"},
        {"sasl_username": "u", "sasl_password": "p"},
        {"session_timeout_s": 6, "heartbeat_interval_s": 4},
        {"brokers": ""},
        {"brokers": "a:1,"},
        {"brokers": "kafka://a:1"},
    ],
)
def test_contradictory_kafka_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KafkaSettings.model_validate(fields)


@pytest.mark.parametrize("name", ["", ".", "a b", "ü", "x" * 250])
def test_name_that_kafka_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TopicNames(items=name)


def test_two_topics_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two topics are called items"):
        TopicNames(users="items")
