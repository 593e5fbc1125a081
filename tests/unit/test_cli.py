"""How the command line reports errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.app import app
from streams.processes import free_port

REPOSITORY = Path(__file__).resolve().parents[2]


def streamrec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, streams.cli\n"
        "print(*sorted({'torch', 'faust', 'faiss', 'aiokafka', 'kafka', 'redis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("command", [info.callback for info in app.registered_commands])
def test_every_command_has_a_help_that_teaches(command: object) -> None:
    text = command.__doc__ or ""
    assert len(text.split()) >= 20, f"{command} explains too little: {text!r}"


def test_operational_error_is_one_line_and_exit_code_1() -> None:
    address = f"127.0.0.1:{free_port()}"
    done = streamrec("topics", "check", STREAMREC_KAFKA__BROKERS=address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"streamrec: cannot reach Kafka at {address}")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_setting_is_exit_code_2() -> None:
    done = streamrec("config", STREAMREC_KAFKA__BROKERZ="x:1")
    assert done.returncode == 2
    assert "kafka.brokerz" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    wrong = {"STREAMREC_KAFKA__BROKERZ": "x:1"}
    for done in (streamrec("--debug", "config", **wrong), streamrec("config", STREAMREC_DEBUG="1", **wrong)):
        assert done.returncode == 1
        assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "oracle"], "trainer.model (flag --set): Input should be 'popularity', 'markov', 'session-knn'"),
        (["--model", "markov", "--max-epochs", "3"], "markov has no epochs"),
        (["--set", "trainer.session_knn.n_recents=5"], "unknown key; did you mean trainer.session_knn.n_recent?"),
        (["--set", "trainer.markov.max_rules=0"], "trainer.markov.max_rules (flag --set): Input should be greater"),
        (["--set", "trainer.popularity.half_life_s=-1"], "trainer.popularity.half_life_s (flag --set): Input should"),
    ],
)
def test_what_is_wrong_with_a_model_that_is_to_be_trained_is_named(arguments: list[str], message: str) -> None:
    done = streamrec("train", *arguments, COLUMNS="200", STREAMREC_KAFKA__BROKERS=f"127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "kept"),
    [([], "the next run goes on from what was kept"), (["--no-archive"], "without an archive nothing was kept")],
)
def test_who_stops_a_training_is_told_what_is_kept(
    options: list[str], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streams.cli.training.kafka_source", lambda settings: None)
    monkeypatch.setattr("trainer.job.train", interrupted)
    done = CliRunner().invoke(app, ["train", *options])
    assert (done.exit_code, done.stdout.strip()) == (130, f"stopped; {kept}")
