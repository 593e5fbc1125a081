"""Progress of training commands where there is no terminal, and files of figures."""

from __future__ import annotations

import io
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from streams.cli.ending import end_as_by_ctrl_c
from streams.cli.errors import NoRoomError
from streams.cli.room import write_figures
from streams.cli.training import ConsoleReport


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only element is what time it is."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def lines_of(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_same_step_begun_again_has_a_speed_of_its_own(clock: list[float]) -> None:
    """As with periods, of which each is replayed under the same name."""
    console = Console(file=io.StringIO(), width=200)
    with ConsoleReport(console, "a cell: ") as report:
        for start_s in (1_000.0, 5_000.0):
            for n in range(3):
                clock[0] = start_s + 10 * n
                report.progress("replaying", 100 * n, 200)
    assert lines_of(console)[-2:] == [
        "a cell:   replaying: 100 of 200 (10/s, about 10 s left)",
        "a cell:   replaying: 200 of 200 (10/s)",
    ]


def test_figures_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"
    write_figures("--json", file, "{}")
    assert file.read_text() == "{}"

    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(NoRoomError, match=r"--json .*figures.json: figures cannot be written .* No space left"):
        write_figures("--json", file, "{1}")
    assert file.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [file]


def test_figures_may_go_to_what_is_no_file() -> None:
    write_figures("--json", Path("/dev/null"), "{}")
    assert not Path("/dev/null").is_file()
    with pytest.raises(NoRoomError, match=r"/dev/full: figures cannot be written there: No space left on device"):
        write_figures("--json", Path("/dev/full"), "{}")


@pytest.mark.parametrize("hang_up", [signal.SIG_IGN, signal.SIG_DFL])
def test_under_nohup_the_end_of_the_terminal_ends_nothing(
    hang_up: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: dict[int, object] = {}
    monkeypatch.setattr(signal, "getsignal", {signal.SIGHUP: hang_up, signal.SIGTERM: signal.SIG_DFL}.get)
    monkeypatch.setattr(signal, "signal", lambda number, handler: set_to.update({number: handler}))
    end_as_by_ctrl_c()
    assert signal.SIGTERM in set_to
    assert (signal.SIGHUP in set_to) == (hang_up is signal.SIG_DFL)
