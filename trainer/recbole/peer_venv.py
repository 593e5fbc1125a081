"""A venv of RecBole's own: it needs older libraries than streamrec, and nothing of streamrec needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from trainer.errors import RecBoleError

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
FOLDER = Path(__file__).parents[2] / ".venv-recbole"
STAMP = ".installed"
"""File in the venv with the hash of the requirements that are in it."""
TORCH_INDEX = "TORCH_INDEX_URL"
"""Environment's name for where pip finds a CPU build of torch, as `make` has it."""

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def run_quietly(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says. Blocks."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def peer_python(
    say: Callable[[str], None],
    folder: Path = FOLDER,
    requirements: Path = REQUIREMENTS,
    run: Run = run_quietly,
) -> Path:
    """The interpreter of RecBole's venv, which is made on the first call and when the requirements have changed.

    Blocks while pip installs, some two minutes.

    Args:
        say: Told that it is made.
        folder: Of the venv.
        requirements: What to install, for pip.
        run: Runs a command.

    Raises:
        RecBoleError: If a step fails, with what it said last; the next call begins again.
    """
    digest, stamp, python = sha256(requirements.read_bytes()).hexdigest(), folder / STAMP, folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == digest:
        return python
    say(f"Making {folder} for RecBole; its libraries are pinned in {requirements} (1 GB, on the first run only)")
    index = os.environ.get(TORCH_INDEX)
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*install, *(["--extra-index-url", index] if index else [])],
    ):
        done = run(command)
        if done.returncode:
            raise RecBoleError(
                f"RecBole cannot be installed: `{' '.join(command)}` ended with {done.returncode} and said: "
                f"{last_line(done.stderr or done.stdout)}. It takes the network or pip's cache, and Python 3.11: "
                "RecBole's pins have no wheels for later ones"
            )
    stamp.write_text(digest)
    return python


def last_line(text: str) -> str:
    r"""The last line that says something.

    Example:
        >>> last_line("Traceback\nValueError: no\n\n")
        'ValueError: no'
    """
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
