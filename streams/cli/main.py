"""Runs the command that was asked for, and says how its errors reach the operator."""

from __future__ import annotations

import os
import sys

from streams.cli import (  # noqa: F401  # each adds its command to `app`
    archive,
    bench,
    config,
    demo,
    evaluate,
    models,
    quality,
    recommend,
    replay,
    stack,
    state,
    tail,
    topics,
    train,
    worker,
)
from streams.cli.app import DEBUG_VARIABLE, app


def main() -> None:
    """Run the command that `sys.argv` names; the exit code is 1 after an error, 2 after wrong usage."""
    try:
        app()
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) or not _is_operational(error):
            raise
        print(f"streamrec: {_in_words(error)}", file=sys.stderr)
        sys.exit(2 if _is_usage(error) else 1)


def _is_operational(error: Exception) -> bool:
    """Whether the operator can act on the error's message, so that a traceback would only hide it."""
    # Imported only once something went wrong: `streamrec --help` must not wait for client libraries.
    import aiokafka.errors
    import kafka.errors
    import redis.exceptions

    import encoders.errors
    import index.errors
    import streams.errors
    import trainer.errors

    operational = (
        encoders.errors.EncodersError,
        index.errors.VectorIndexError,
        streams.errors.StreamsError,
        trainer.errors.TrainerError,
        aiokafka.errors.KafkaError,
        kafka.errors.KafkaError,
        redis.exceptions.RedisError,
        OSError,
    )
    return isinstance(error, operational)


def _is_usage(error: Exception) -> bool:
    from streams.cli.errors import SettingsError

    return isinstance(error, SettingsError)


def _in_words(error: Exception) -> str:
    module = type(error).__module__.partition(".")[0]
    text = str(error) or type(error).__name__
    if module in ("aiokafka", "kafka"):
        return f"Kafka: {text}; check kafka.brokers and its credentials with `streamrec config --show`"
    if module == "redis":
        return f"Redis: {text}; check redis.url and redis.password with `streamrec config --show`"
    return text
