"""`streamrec demo`: everything at once, on real input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.ending import end_as_by_ctrl_c

if TYPE_CHECKING:
    from rich.console import Console

    from streams.cli.demo.stage import Stage
    from streams.cli.demo.summary import Summary


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder with a data set: u.data, ratings.csv, events.csv(.gz) or *.inter. Default: MovieLens 100K,"
            " downloaded once.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Replay at most this many events a second; fewer flow while the second training and the takeover"
            " go on. Default: half of the events in 25 s.",
            show_default=False,
        ),
    ] = None,
    top_n: Annotated[
        int, typer.Option("--top-n", min=10, max=100, help="Length of a list; at least 10, where hits are counted.")
    ] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers and the worker running until Ctrl-C, to play with.")
    ] = False,
) -> None:
    """See all of streamrec at work on MovieLens: clicks in, lists out, a model swapped, a worker killed.

    1. publish the first 80 % of the events by time
    2. train a model on them
    3. start two workers
    4. replay the rest and watch the lists come
    5. half-way, train again and swap the model while events flow
    6. kill a worker while events flow
    7. compare everything with the log and sum up

    Needs no servers: a broker and Valkey are started on free ports and stopped at the end. Takes about 3 minutes.
    Exits 0 only if no event was lost, every session is what the log amounts to, and both models answered.
    """
    import shutil
    import tempfile

    from rich.console import Console

    from streams.cli.demo.run import run_demo
    from streams.cli.demo.stage import Stage
    from trainer.datasets import read_dataset
    from trainer.movielens import fetch_movielens_100k

    end_as_by_ctrl_c()
    console = Console()
    dataset = read_dataset(
        data or fetch_movielens_100k(lambda text: console.print(text, highlight=False, soft_wrap=True))
    )
    console.print(
        f"{dataset.name} ({dataset.layout}): {len(dataset.events):,} events, {len(dataset.items):,} items,"
        f" {len(dataset.users):,} profiles",
        highlight=False,
    )
    directory = Path(tempfile.mkdtemp(prefix="streamrec-demo-"))
    worth_keeping = True
    try:
        with Stage(console, directory, top_n) as stage:
            problems = _report(run_demo(stage, dataset, rate), console, json_file)
            worth_keeping = bool(problems)
            if keep:
                _keep(stage, dataset.events.user_ids[-1])
    except KeyboardInterrupt:
        worth_keeping = False
        console.print("\nstopped; nothing is left running")
        raise typer.Exit(130) from None
    finally:
        if worth_keeping:
            console.print(f"logs and models are kept in {directory}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if problems:
        raise typer.Exit(1)


def _report(summary: Summary, console: Console, json_file: Path | None) -> list[str]:
    """Show the summary and write its JSON; what went wrong."""
    import json

    for table in summary.tables():
        console.print(table)
    if json_file:
        json_file.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
        console.print(f"figures written to {json_file}", highlight=False)
    problems = summary.problems()
    for problem in problems:
        console.print(f"NOT WELL: {problem}", style="bold red", highlight=False)
    if not problems:
        console.print(
            "All is well: nothing lost, every session as the log says, both models served.", style="bold green"
        )
    return problems


def _keep(stage: Stage, user_id: str) -> None:
    """Leave everything as it is until Ctrl-C."""
    import time

    worker = stage.workers[0]
    stage.console.print(
        f"\nStill running: Kafka at {stage.servers.brokers}, Redis at {stage.servers.redis_url},"
        f" {worker.name} at http://{worker.address}/metrics. In another terminal:\n\n"
        f"  export STREAMREC_CONFIG={stage.config}\n  streamrec tail\n  streamrec recommend {user_id}\n"
        f"  streamrec state show {user_id}\n\nCtrl-C ends it.",
        highlight=False,
        soft_wrap=True,
    )
    try:
        while True:
            stage.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        stage.console.print("stopped")
