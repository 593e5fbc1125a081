"""`streamrec bench`: what an event costs, beside peers and beside the least that it could cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.ending import end_as_by_ctrl_c
from streams.cli.room import insist_on_room

if TYPE_CHECKING:
    from rich.console import Console

    from streams.cli.bench.benchmark import Benchmark, Figures
    from streams.cli.bench.stage import Stage


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES",
            help="throughput, latency, catalogue, history, workers, reload; all of them if none is named.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Write each benchmark's figures to DIR/NAME.json; with --brokers to DIR/NAME-kafka.json.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny numbers and no peers, to see that it works; the figures mean nothing."),
    ] = False,
    brokers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A Kafka to use. Default: an embedded one.", show_default=False),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A Redis to use. Default: an embedded Valkey.", show_default=False),
    ] = None,
) -> None:
    """Measure what an event costs, end to end: Kafka in, state in Redis, Kafka out.

    - **throughput**: one worker drains a full topic, beside the same in stock Faust and in Quix Streams, and
      beside the parts that nobody can leave out, measured alone
    - **latency**: from publish to receipt at 10, 50 and 80 % of that throughput
    - **catalogue**: from three thousand to a million items
    - **history**: users with 10, 100 and 1,000 past events
    - **workers**: 1, 2 and 4 worker processes
    - **reload**: a model of a million items is swapped while events flow

    Needs no servers: a broker and Valkey are started on free ports for each measurement. Given ones get topics and keys
    of their own, which are removed again. All of them take about 14 minutes and 5 GB of memory on two cores; let
    nothing else run.

    Exits 1 if an event was lost anywhere. A goal that was missed is shown, and no error.
    """
    import shutil
    import tempfile

    from rich.console import Console

    from streams.cli.bench.benchmark import chosen
    from streams.cli.bench.errors import BenchError, UnknownBenchmarkError

    try:
        benchmarks = chosen(names or [])
    except UnknownBenchmarkError as error:
        raise typer.BadParameter(str(error), param_hint="NAMES") from None
    try:
        import psutil  # noqa: F401  # of the extra `bench`
    except ImportError:
        raise BenchError("benchmarks need a few more packages: pip install 'streamrec[bench]'") from None
    from streams.cli.bench.memory import available_memory_bytes, insist_on_memory
    from streams.cli.bench.report import figures_file, insist_on_quick
    from streams.cli.bench.stage import Stage

    end_as_by_ctrl_c()
    _insist_on_addresses(brokers, redis)
    if json_file:
        insist_on_room("--json", json_file, json_file)
        if quick:
            insist_on_quick("--json", json_file, [json_file])
    if output:
        files = [figures_file(output, benchmark.name, brokers is not None) for benchmark in benchmarks]
        insist_on_room("--output", output, files[0])
        if quick:
            insist_on_quick("--output", output, files)
    insist_on_memory(benchmarks, quick, available_memory_bytes())
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="streamrec-bench-"))
    well = False
    try:
        stage = Stage(console, directory, brokers, redis, quick)
        well = _run(stage, benchmarks, json_file, output)
    except KeyboardInterrupt:
        well = True
        console.print("\nstopped; nothing is left running")
        raise typer.Exit(130) from None
    finally:
        shutil.rmtree(directory if well else directory / "bundles", ignore_errors=True)
        if any(path.is_file() for path in directory.rglob("*")):
            console.print(f"logs are kept in {directory}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if not well:
        raise typer.Exit(1)


def _insist_on_addresses(brokers: str | None, redis: str | None) -> None:
    """See that given addresses are ones.

    Raises:
        BenchError: If they are not.
    """
    from pydantic import ValidationError

    from streams.cli.bench.errors import BenchError
    from streams.settings import KafkaSettings, RedisSettings

    checks: tuple[tuple[str, str | None, Callable[[str], object], str], ...] = (
        ("--brokers", brokers, lambda given: KafkaSettings(brokers=given), "HOST:PORT, several with commas between"),
        ("--redis", redis, lambda given: RedisSettings(url=given), "a URL such as redis://127.0.0.1:6379/0"),
    )
    for option, value, check, expected in checks:
        try:
            if value is not None:
                check(value)
        except ValidationError:
            raise BenchError(f"{option} {value}: an address is {expected}") from None


def _run(stage: Stage, benchmarks: list[Benchmark], json_file: Path | None, output: Path | None) -> bool:
    """Run them one after the other; whether no event was lost."""
    from streams.cli.bench.environment import environment
    from streams.cli.bench.report import figures_file, table, write_json
    from trainer.machine import moment

    where = environment(stage.servers())
    _say_where(stage.console, where)
    for benchmark in benchmarks:
        stage.console.rule(benchmark.name)
        stage.results[benchmark.name] = figures = benchmark.run(stage)
        stage.console.print(table(benchmark, figures))
        if output:
            file = figures_file(output, benchmark.name, stage.broker_is_given)
            write_json(file, {"environment": where | {"date": moment()}, benchmark.name: figures}, stage.quick)
        if json_file:
            write_json(json_file, {"environment": where, **stage.results}, stage.quick)
    return _complain(stage.console, stage.results)


def _say_where(console: Console, where: Figures) -> None:
    console.print(
        f"{where['cpu']}, {where['cores']} cores; {where['broker']}; {where['redis']}; commit {where['commit']}",
        highlight=False,
        soft_wrap=True,
    )


def _complain(console: Console, results: dict[str, Figures]) -> bool:
    from streams.cli.bench.benchmark import lost_events

    lost = {name: found for name, figures in results.items() if (found := lost_events(figures))}
    for name, found in lost.items():
        told = ", ".join(f"{key} {count:,}" for key, count in found.items())
        console.print(f"NOT WELL: {name} lost events: {told}", style="bold red", highlight=False)
    return not lost
