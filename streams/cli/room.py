"""Whether figures can be written, before the work and not after it."""

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
