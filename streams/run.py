"""Runs a worker in this process until it is told to stop."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace

import faiss
import faust
import torch

from streams.app import StreamWorker, WorkerConfig
from streams.preflight import inspect_kafka, inspect_redis
from streams.quiet import say_once

_QUIET = ("aiokafka", "faust", "mode", "kafka")
"""Libraries whose everyday news is of no interest to an operator."""


def run_worker(config: WorkerConfig, loglevel: str) -> None:
    """Check what the worker depends on, say where its web pages are, and run it.

    Raises:
        DependencyError: If Kafka or Redis cannot be used at start.
        StateMismatchError: If the state in Redis does not belong to this cluster and log.
    """
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    place = inspect_kafka(config.kafka)
    inspect_redis(config.redis)
    if config.web.port == 0:
        config = replace(config, web=config.web.model_copy(update={"port": _free_port(config.web.host)}))
    parts = StreamWorker(config, place)
    print(f"worker: {parts.web.url}  cluster {place.cluster}, {place.n_partitions} partitions", flush=True)
    level = logging.getLevelNamesMapping()[loglevel.upper()]
    worker = faust.Worker(parts.app, *parts.services, loglevel=level, redirect_stdouts=False)
    for service in (parts.app, *parts.services):
        service._mundane_level = logging.DEBUG  # how loud "Starting..." is, read from the class at construction
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    say_once("aiokafka")
    try:
        worker.execute_from_commandline()
    finally:
        if parts.fatal is not None:
            raise parts.fatal


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
