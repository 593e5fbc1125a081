"""`streamrec replay`: publishes a data set as if it happened now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, load_settings


@app.command()
def replay(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with a data set: u.data, ratings.csv, events.csv(.gz) or *.inter. Default: MovieLens 100K,"
            " downloaded once.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Events a second. Default: as fast as they go.", show_default=False),
    ] = None,
    start: Annotated[float, typer.Option("--from", min=0, max=1, help="Where to begin, as a share of the events.")] = 0,
    end: Annotated[float, typer.Option("--to", min=0, max=1, help="Where to stop, as a share of the events.")] = 1,
    items: Annotated[
        bool, typer.Option("--items/--no-items", help="Publish the catalogue and the users' profiles first.")
    ] = True,
) -> None:
    """Publish a data set's interactions in the order of time, and before them its items and users.

    The same row always has the same event id, so a row that is sent twice in a row counts once.

    `streamrec replay --to 0.8` publishes the first 80 %, to train on;
    `streamrec replay ~/ml-latest-small --from 0.8 --rate 200` the rest, 200 events a second.
    """
    from rich.console import Console

    from streams.cli.progress import counted
    from streams.publish import Pace, open_producer, publish
    from trainer.datasets import read_dataset
    from trainer.movielens import fetch_movielens_100k

    if start >= end:
        raise typer.BadParameter(f"--from {start} is not before --to {end}")
    settings = load_settings(config, sets)
    topics = settings.kafka.topics
    console = Console()
    dataset = read_dataset(
        data or fetch_movielens_100k(lambda text: console.print(text, highlight=False, soft_wrap=True))
    )
    for reason, n in dataset.skipped.items():
        console.print(f"left out {n:,} rows: {reason}", highlight=False)
    producer = open_producer(settings.kafka, bulk=rate is None)
    try:
        if items:
            n_items = publish(producer, topics.items, dataset.items)
            n_users = publish(producer, topics.users, dataset.users)
            console.print(f"published {n_items:,} items to {topics.items} and {n_users:,} profiles to {topics.users}")
        first, last = dataset.row_at(start), dataset.row_at(end)
        began_s, n_sent = time.monotonic(), 0
        with counted(console, f"interactions to {topics.interactions}", last - first) as done:

            def count(_: object) -> None:
                nonlocal n_sent
                n_sent += 1
                done(n_sent)

            publish(producer, topics.interactions, dataset.interactions(first, last), pace=Pace(rate), on_sent=count)
    finally:
        producer.close(timeout=5)
    took_s = time.monotonic() - began_s
    console.print(f"published {n_sent:,} interactions in {took_s:.1f} s ({n_sent / max(took_s, 1e-9):,.0f}/s)")
