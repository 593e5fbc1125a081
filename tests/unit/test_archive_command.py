"""Which archive the commands of the trainer use, and what `streamrec archive` says of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from encoders.records import Interaction
from streams.cli.app import app
from streams.cli.archive import archive_folder
from streams.cli.config import Settings, load_settings
from tests.archives import RecordLog, append
from trainer.errors import ArchiveError


def settings(*sets: str) -> Settings:
    return load_settings(None, sets)


def test_the_archive_is_among_the_bundles_unless_it_is_named() -> None:
    assert archive_folder(settings()) == Path("bundles/archive")
    assert archive_folder(settings("model.bundles=/b")) == Path("/b/archive")
    assert archive_folder(settings("model.bundles=/b"), bundles=Path("/c")) == Path("/c/archive")
    assert archive_folder(settings("trainer.archive=/a"), bundles=Path("/c")) == Path("/a")
    assert archive_folder(settings("trainer.archive=/a"), given=Path("/g")) == Path("/g")


def test_no_archive_is_used_where_none_is_wanted() -> None:
    assert archive_folder(settings("trainer.archive=/a"), without=True) is None
    assert archive_folder(settings("trainer.archive=off")) is None
    assert archive_folder(settings("trainer.archive=off"), given=Path("/g")) == Path("/g")


def test_an_archive_that_is_given_and_not_wanted_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="not both"):
        archive_folder(settings(), given=Path("/g"), without=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    log = RecordLog()
    click = Interaction(event_id="e", user_id="ann", item_id="x", event_type="click", timestamp_ms=1)
    append(tmp_path, [*log.interactions([click]), log.record(b"{", 0), log.record(b"{", 0)], log.ends)
    append(tmp_path, [], {0: 9, 1: 9}, begins={0: 9, 1: 0})
    return tmp_path


def test_info_says_what_is_there_and_what_is_missing(archive: Path) -> None:
    shown = CliRunner().invoke(app, ["archive", "info", "--archive", str(archive)], catch_exceptions=False).stdout
    assert "topic interactions, Kafka cluster cluster" in shown
    assert "3 records were read, 1 of them are interactions of 1 users and 1 items" in shown
    assert "  2 were invalid" in shown
    assert "partition 0: offsets 0 to 9, without 6 that were removed from the topic before they were read" in shown
    assert "partition 1: offsets 0 to 9\n" in shown


def test_verify_says_that_an_archive_is_whole_or_what_is_damaged(archive: Path) -> None:
    command = ["archive", "verify", "--archive", str(archive)]
    assert "is whole: 1 interactions" in CliRunner().invoke(app, command, catch_exceptions=False).stdout
    (archive / "rows.times_ms").write_bytes(b"12345678")
    with pytest.raises(ArchiveError, match="damaged"):
        CliRunner().invoke(app, command, catch_exceptions=False)
