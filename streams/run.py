"""Runs a worker in this process until it is told to stop."""

from __future__ import annotations

import gc
import logging
import socket
from dataclasses import replace

import faiss
import faust
import torch

from streams.app import StreamWorker, WorkerConfig
from streams.errors import DependencyError
from streams.pipeline import compile_loops
from streams.preflight import inspect_kafka, inspect_redis
from streams.quiet import say_once
from streams.settings import WebSettings

_QUIET = ("aiokafka", "faust", "mode", "kafka")
"""Libraries whose everyday news is of no interest to an operator."""

_GC_THRESHOLDS = (50_000, 20, 100)
"""A batch makes tens of thousands of objects and no cycles: at the default of 700 the collector walks all cached
sessions again and again, a tenth of the worker's time."""


def run_worker(config: WorkerConfig, loglevel: str) -> None:
    """Check what the worker depends on, say where its web pages are, and run it.

    Raises:
        DependencyError: If Kafka or Redis cannot be used at start.
        StateMismatchError: If the state in Redis does not belong to this cluster and log.
    """
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    gc.set_threshold(*_GC_THRESHOLDS)
    place = inspect_kafka(config.kafka)
    inspect_redis(config.redis)
    compile_loops()
    gc.collect()  # what compiling and importing have left stays for good: half a million objects
    gc.freeze()
    config = replace(config, web=config.web.model_copy(update={"port": _usable_port(config.web)}))
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


def _usable_port(web: WebSettings) -> int:
    """The port to listen on, looked at before the start: an error in its midst would come with a traceback.

    Raises:
        DependencyError: If it is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    try:
        with socket.create_server((web.host, web.port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise DependencyError(
            f"the web server cannot listen on {web.host}:{web.port}: {error.strerror}; set web.port to a free one,"
            " or to 0 to take any, and web.host to an address of this machine"
        ) from error
