"""`streamrec` as a process, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streams.cli.config import Settings
from tests.processes import PATIENCE_S, settings_file
from tests.servers import REPOSITORY


class CommandLine:
    """Runs `streamrec` commands with one settings file.

    Args:
        settings: What the file says, secrets included.
        directory: Where the file goes.
    """

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.config = settings_file(directory / "streamrec.toml", settings)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command, and do not wait for it."""
        # After the terminal command comes its own --config, as each takes one.
        return subprocess.Popen(
            [sys.executable, "-m", "streams.cli", *map(str, arguments), "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "120"},
        )

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def output(self, *arguments: str | Path) -> str:
        """What a command prints that must succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"streamrec {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
        return done.stdout

    def refusal(self, *arguments: str | Path) -> str:
        """The error of a command that must fail as an operator expects: one message, no traceback, exit code 1."""
        done = self.run(*arguments)
        assert done.returncode == 1, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr
