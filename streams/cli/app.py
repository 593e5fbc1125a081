"""The `streamrec` application, to which every module of this package adds its command."""

from __future__ import annotations

import os
from typing import Annotated

import typer

DEBUG_VARIABLE = "STREAMREC_DEBUG"

app = typer.Typer(
    name="streamrec",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `streamrec demo`. Every command explains itself with --help.",
)


@app.callback()
def streamrec(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Streaming recommendations: clicks in through Kafka, fresh top-N lists out of Kafka."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
