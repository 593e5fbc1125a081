"""`streamrec worker`: runs one worker until it is stopped."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, load_settings


class LogLevel(StrEnum):
    """How much a worker says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command()
def worker(
    config: ConfigOption = None,
    sets: SetOption = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of /health, /ready and /metrics; 0 takes a free one.", show_default=False
        ),
    ] = None,
    loglevel: Annotated[LogLevel, typer.Option(help="What is worth a line.")] = LogLevel.INFO,
) -> None:
    """Answer events: keep sessions, step the encoder, publish a list for every event.

    Start as many as there are cores; they share the partitions of `interactions` in one consumer group, and
    take over from one that dies. Ctrl-C or SIGTERM stops a worker; nothing is lost, however it ends.

    It prints the address of its own web pages: `/health`, `/ready` and `/metrics`.
    """
    # One thread each for torch, FAISS and BLAS: a deployment scales by worker processes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from streams.app import WorkerConfig
    from streams.run import run_worker

    settings = load_settings(config, sets)
    web = settings.web if port is None else settings.web.model_copy(update={"port": port})
    run_worker(WorkerConfig(settings.kafka, settings.redis, settings.worker, settings.model, web), loglevel)
