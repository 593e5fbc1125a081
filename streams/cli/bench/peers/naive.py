"""The recommender as a stock Faust program: one event at a time, a Table for the sessions, one `send` for each list.

What Faust's documentation shows, with the settings that help: the Table in memory with its changelog, raw bytes
where Faust would serialise once more, bounded polls, no web server and no leader topic.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from kafka import KafkaConsumer

from streams.cli.bench.peers.options import PeerOptions, peer_options
from streams.cli.bench.peers.recommender import Recommender

POLL = 500
"""Records of one poll where events are answered one at a time: the default of Kafka's own client."""


def main() -> None:
    """Run until SIGTERM."""
    run_app(naive_app, peer_options("naive"))


def run_app(make_app: Callable[[PeerOptions, Path], faust.App], options: PeerOptions) -> None:
    """Run an app until SIGTERM, with a folder that Faust may write to."""
    with tempfile.TemporaryDirectory(prefix="streamrec-peer-") as datadir:
        app = make_app(options, Path(datadir))
        faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


def naive_app(options: PeerOptions, datadir: Path) -> faust.App:
    """The whole program."""
    recommender = Recommender(options.bundle, options.top_n)
    app = stock_app(options, datadir)
    clicks = app.topic(options.input, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw")
    lists = app.topic(options.output, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw")
    sessions = app.Table("sessions", partitions=n_partitions(options), key_type=bytes, value_type=bytes)

    @app.agent(clicks)
    async def recommend(stream: Any) -> None:
        async for key, value in stream.items():
            click = json.loads(value)
            sessions[key], items = recommender.answer(sessions.get(key), click["item_id"])
            answer = {"event_id": click["event_id"], "user_id": click["user_id"], "items": items}
            await lists.send(key=key, value=json.dumps(answer).encode())

    return app


def stock_app(options: PeerOptions, datadir: Path, max_poll_records: int = POLL, **settings: Any) -> faust.App:
    """A Faust app on Faust's own driver; short timeouts, since the embedded broker holds a joining group for long.

    Args:
        options: How it is started.
        datadir: Where Faust may write.
        max_poll_records: Most records that Faust takes from its fetches at once.
        settings: Others of Faust's.
    """
    return faust.App(
        options.group,
        broker=";".join(f"kafka://{address}" for address in options.brokers.split(",")),
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=6.0,
        broker_max_poll_records=max_poll_records,
        consumer_auto_offset_reset="earliest",
        store="memory://",
        stream_buffer_maxsize=max(4096, max_poll_records),
        stream_wait_empty=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=datadir,
        **settings,
    )


def n_partitions(options: PeerOptions) -> int:
    """How many partitions the input has, and with it a Table beside it."""
    consumer = KafkaConsumer(bootstrap_servers=options.brokers.split(","))
    try:
        return len(consumer.partitions_for_topic(options.input) or (0,))
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
