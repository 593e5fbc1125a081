"""`streamrec topics create` and `streamrec topics check`."""

from __future__ import annotations

import sys

import typer

from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, load_settings
from streams.settings import KafkaSettings
from streams.topics import check_topics, create_topics, wanted_topics

topics_app = typer.Typer(no_args_is_help=True, help="Make the topics, or say what is wrong with those that exist.")
app.add_typer(topics_app, name="topics")


@topics_app.command()
def create(config: ConfigOption = None, sets: SetOption = None) -> None:
    """Make the topics that are missing; exit 1 if one that exists already will not do.

    `interactions` and `recommendations` get kafka.partitions partitions: choose generously, the users' state is
    bound to the number. Every topic gets kafka.replication_factor copies. A topic that exists is never altered.
    """
    kafka = load_settings(config, sets).kafka
    made = create_topics(kafka)
    for topic in wanted_topics(kafka):
        print(f"{'created' if topic.name in made else 'exists '}  {topic.name}")
    _report(kafka)


@topics_app.command()
def check(config: ConfigOption = None, sets: SetOption = None) -> None:
    """Say what is wrong with the topics and what to do about it; exit 1 if anything is.

    Looks for missing topics, a wrong number of partitions, a wrong cleanup policy and too small a record limit.
    """
    _report(load_settings(config, sets).kafka)


def _report(kafka: KafkaSettings) -> None:
    problems = check_topics(kafka)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    print(f"the topics on {kafka.brokers} are as they should be")
