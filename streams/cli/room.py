"""Figures that are written: whether they can be is seen before the work and not after it."""

from __future__ import annotations

from pathlib import Path

from streams.cli.errors import NoRoomError


def insist_on_room(option: str, given: Path, file: Path) -> None:
    """See that a file can be written; folders on the way to it are made.

    Args:
        option: What the place was given by, such as `--json`.
        given: The place as it was given.
        file: The file that will be written.

    Raises:
        NoRoomError: If it cannot.
    """
    was_there = file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise NoRoomError(f"{option} {given}: figures cannot be written there: {error.strerror}") from error
    if not was_there:
        file.unlink()


def write_figures(option: str, file: Path, content: str) -> None:
    """Write a file of figures; it is there whole or not at all.

    Args:
        option: What the file was given by, such as `--json`.
        file: The file.
        content: What it will hold.

    Raises:
        NoRoomError: If it cannot be written.
    """
    special = file.exists() and not file.is_file()  # such as /dev/stdout, which cannot be replaced
    scratch = file if special else file.with_name(f"{file.name}.writing")
    try:
        scratch.write_text(content)
        if not special:
            scratch.replace(file)
    except OSError as error:
        if not special:
            scratch.unlink(missing_ok=True)
        raise NoRoomError(f"{option} {file}: figures cannot be written there: {error.strerror}") from error
