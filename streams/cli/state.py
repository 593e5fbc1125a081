"""`streamrec state show` and `streamrec state reset`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from encoders.records import DEFAULT_CATALOGUE
from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, load_settings

if TYPE_CHECKING:
    from streams.cli.consume import Titles
    from streams.session import Session

state_app = typer.Typer(no_args_is_help=True, help="Look at what is stored of a user, or drop all stored state.")
app.add_typer(state_app, name="state")


@state_app.command()
def show(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    config: ConfigOption = None,
    sets: SetOption = None,
    catalogue: Annotated[str, typer.Option(help="Which catalogue's session.")] = DEFAULT_CATALOGUE,
) -> None:
    """Print a user's session as it is stored in Redis: window, encoder states, seen items, latest list.

    Exits 1 if there is none.
    """
    from streams.cli.consume import titles_if_there
    from streams.cli.errors import UnknownUserError
    from streams.cli.lists import legible
    from streams.inspection import StateReader
    from streams.preflight import redis_errors

    settings = load_settings(config, sets)
    reader = StateReader.of(settings.redis, settings.kafka)
    with redis_errors(settings.redis):
        session, home = reader.session(user, catalogue), reader.home_of(user)
    if session is None:
        raise UnknownUserError(
            f"no session of user {user!r} in catalogue {catalogue!r} at {settings.redis.safe_url}:"
            " no event of this user has been applied, or the session has expired"
        )
    print(f"user {legible(user)}, catalogue {catalogue}, partition {home} of {settings.kafka.topics.interactions}")
    for line in session_lines(session, titles_if_there(settings.kafka), catalogue):
        print(line)


@state_app.command()
def reset(
    config: ConfigOption = None,
    sets: SetOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Drop the stored state of every partition: sessions, popularity counts, applied offsets, owners.

    For another cluster, a topic made anew, or state that is no longer wanted. Nothing in Kafka is touched: workers
    rebuild the sessions from what the log still holds, and do not send again the lists of what they have committed.
    Workers may be running; each partition goes at once, and its worker takes it anew.
    """
    from streams.inspection import StateReader
    from streams.preflight import redis_errors

    settings = load_settings(config, sets)
    reader = StateReader.of(settings.redis, settings.kafka)
    topic = settings.kafka.topics.interactions
    with redis_errors(settings.redis):
        found = {partition: reader.applied(partition) for partition in reader.partitions()}
    if not found:
        print(f"there is no state of topic {topic!r} at {settings.redis.safe_url}")
        return
    print(f"At {settings.redis.safe_url} there is state of topic {topic!r}:")
    for partition, applied in found.items():
        if applied:
            print(f"  partition {partition}: applied up to offset {applied.offset}, Kafka cluster {applied.cluster}")
    print("All of it would go: every user's session, the popularity counts and the offsets.")
    print("Workers rebuild it from the log, as far back as the log goes; what retention has taken is forgotten.")
    if not yes:
        typer.confirm("Drop it?", abort=True)
    with redis_errors(settings.redis):
        dropped = sum(reader.reset(partition) for partition in found)
    print(f"dropped {dropped:,} keys of {len(found)} partitions")


def session_lines(session: Session, titles: Titles, catalogue: str) -> list[str]:
    """A session in plain words, one line a fact."""
    from streams.cli.lists import legible
    from streams.session import fingerprints_of, state_of

    window = session.window
    lines = [f"applied up to offset {session.applied_offset}", f"window of {len(window)} events, oldest first:"]
    for identity, time_s, code in zip(window.item_hashes, window.times_s, window.type_codes, strict=True):
        name = titles.title(identity) or titles.item_id(identity) or f"item with hash {identity:016x}"
        happened_at = datetime.fromtimestamp(time_s, UTC)
        lines.append(f"  {happened_at:%Y-%m-%d %H:%M:%S}  {_event_type(code):<10} {legible(name)}")
    lines.append(f"{len(fingerprints_of(session.seen))} seen items that have left the window")
    lines += [f"encoder state of {key}: {len(state_of(state))} numbers" for key, state in session.states.items()]
    if session.latest is None:
        return [*lines, "no list yet"]
    lines.append(f"latest list, by {session.latest.model_version or 'no model'}:")
    for rank, item in enumerate(session.latest.items, start=1):
        name = legible(titles.of(item.item_id, catalogue))
        lines.append(f"  {rank:>2}. {name} ({item.source} {item.score:.3f})")
    return lines


def _event_type(code: int) -> str:
    from encoders.events import EVENT_BY_CODE

    kind = EVENT_BY_CODE.get(code)
    return kind.value if kind else f"type {code}"
