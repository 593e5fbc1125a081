"""`streamrec stack`: the embedded broker and Valkey in the foreground."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.app import app
from streams.cli.ending import end_as_by_ctrl_c
from streams.errors import DependencyError

POLL_S = 0.5


@app.command("stack")
def stack_command(
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="FILE", help="Write the settings there, e.g. streamrec.toml, instead of printing."
        ),
    ] = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", metavar="DIR", help="Keep the servers' logs. Default: removed at the end.")
    ] = None,
    redis_dir: Annotated[
        Path | None, typer.Option("--redis-dir", metavar="DIR", help="Where Valkey keeps its data. Default: nowhere.")
    ] = None,
) -> None:
    """Run a Kafka-protocol broker and Valkey on free ports of this machine until Ctrl-C.

    Prints both addresses and the settings to use them: `streamrec stack --write streamrec.toml` in one terminal,
    `streamrec topics create` and `streamrec worker` in others. The broker keeps everything in memory: it is for
    trying things out, not for production.
    """
    from streams.stack import EmbeddedStack

    end_as_by_ctrl_c()
    with EmbeddedStack(logs=logs, redis_dir=redis_dir) as stack:
        settings = stack.settings_file()
        print(f"Kafka  {stack.brokers}\nRedis  {stack.redis_url}")
        if write:
            write.write_text(settings)
            print(f"settings written to {write}")
        else:
            print(f"\n# streamrec.toml\n{settings}")
        print("Ctrl-C stops both.", flush=True)
        servers = {"broker": stack.broker_process, "Valkey": stack.redis_process}
        try:
            while True:
                for name, process in servers.items():
                    if process.poll() is not None:
                        raise DependencyError(f"the embedded {name} ended by itself, exit code {process.returncode}")
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            print("stopped")
