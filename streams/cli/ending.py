"""How a command that has started other processes ends: as if by Ctrl-C, so that it takes them along."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and the end of the terminal raise KeyboardInterrupt in the main thread.

    What is ignored stays so: under `nohup` a command outlives its terminal.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
