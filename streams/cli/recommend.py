"""`streamrec recommend`: a user's latest list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from encoders.records import DEFAULT_CATALOGUE
from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, load_settings


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    config: ConfigOption = None,
    sets: SetOption = None,
    catalogue: Annotated[str, typer.Option(help="Which catalogue's list.")] = DEFAULT_CATALOGUE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the list that was made for the user's newest event, with titles, from Redis.

    `source` tells where an item comes from: `ann` is the model, `popularity` answers where the model cannot.
    Exits 1 if nothing is known of the user.
    """
    import json

    from streams.cli.consume import titles_if_there
    from streams.cli.errors import UnknownUserError
    from streams.cli.lists import legible
    from streams.inspection import StateReader
    from streams.preflight import redis_errors

    settings = load_settings(config, sets)
    with redis_errors(settings.redis):
        session = StateReader.of(settings.redis, settings.kafka).session(user, catalogue)
    if session is None or session.latest is None:
        raise UnknownUserError(
            f"no list for user {user!r} in catalogue {catalogue!r} at {settings.redis.safe_url}:"
            " no event of this user has been applied, or the session has expired"
        )
    latest = session.latest
    titles = titles_if_there(settings.kafka)
    if as_json:
        items = [
            {"item_id": i.item_id, "score": i.score, "source": i.source, "title": titles.of(i.item_id, catalogue)}
            for i in latest.items
        ]
        head = {"user_id": user, "model_version": latest.model_version, "generated_at_ms": latest.generated_at_ms}
        print(json.dumps({**head, "items": items}, ensure_ascii=False))
        return
    made_at = datetime.fromtimestamp(latest.generated_at_ms / 1000, UTC)
    print(f"user {legible(user)}, made {made_at:%Y-%m-%d %H:%M:%S} UTC by {latest.model_version or 'no model'}")
    names = [legible(titles.of(item.item_id, catalogue)) for item in latest.items]
    width = max(map(len, names), default=0)
    for rank, (name, item) in enumerate(zip(names, latest.items, strict=True), start=1):
        print(f"{rank:>3}. {name:<{width}}  {item.score:8.3f}  {item.source}")
