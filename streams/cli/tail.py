"""`streamrec tail`: prints recommendations as they come."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Annotated

import typer

from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, load_settings


@app.command()
def tail(
    config: ConfigOption = None,
    sets: SetOption = None,
    user: Annotated[str | None, typer.Option(help="Only lists for this user.", show_default=False)] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest list that is there.")] = False,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="Stop after this many lists.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as they are, one a line.")] = False,
) -> None:
    """Print recommendations as they come, with titles where the items topic has them.

    One line a list: the user, the model that answered, and the items, best first. An item marked with * comes from
    popularity, not from the model. Ctrl-C ends it. Other readers are not disturbed: no group, no commits.
    """
    from pydantic import ValidationError

    from encoders.records import Recommendation
    from streams.cli.consume import open_consumer, read_titles
    from streams.cli.lists import list_line

    settings = load_settings(config, sets)
    titles = None if as_json else read_titles(settings.kafka)
    left = count
    topic = settings.kafka.topics.recommendations
    with (
        closing(open_consumer(settings.kafka, [topic], from_start=from_start)) as consumer,
        suppress(KeyboardInterrupt),
    ):
        for record in consumer:
            try:
                made = Recommendation.model_validate_json(record.value or b"")
            except ValidationError:
                typer.echo(f"{topic} {record.partition}@{record.offset}: not a recommendation", err=True)
                continue
            if user is not None and made.user_id != user:
                continue
            print(record.value.decode() if titles is None else list_line(made, titles.of), flush=True)
            if left is not None and (left := left - 1) == 0:
                return
