"""How a peer is started."""

from __future__ import annotations

import os

# Before numpy and torch are imported: one thread each, as our worker has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from streams.settings import WorkerSettings

_WORKER = WorkerSettings()


class PeerOptions(NamedTuple):
    """What a peer has to know."""

    brokers: str
    input: str
    output: str
    bundle: Path
    group: str
    top_n: int
    redis: str | None = None
    """Address of a Redis, for a peer that keeps its state there."""
    key_prefix: str = ""
    max_batch: int = _WORKER.max_batch
    """Most events that a peer that works in batches works out at once."""


def peer_options(program: str, arguments: Sequence[str] | None = None) -> PeerOptions:
    """Read the command line, or end the process with what is wrong with it."""
    parser = ArgumentParser(prog=program)
    parser.add_argument("--brokers", required=True, metavar="HOST:PORT")
    parser.add_argument("--input", default="interactions", metavar="TOPIC")
    parser.add_argument("--output", default="recommendations", metavar="TOPIC")
    parser.add_argument("--bundle", required=True, type=Path, metavar="DIR")
    parser.add_argument("--group", required=True)
    parser.add_argument("--top-n", default=10, type=int, metavar="N")
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--key-prefix", default="", metavar="TEXT")
    parser.add_argument("--max-batch", default=_WORKER.max_batch, type=int, metavar="N")
    return PeerOptions(**vars(parser.parse_args(arguments)))
