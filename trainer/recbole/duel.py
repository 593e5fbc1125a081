"""Both sides learn the same task in turns, until the peer gets no better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import RecBoleError
from trainer.evaluation import Queries
from trainer.interactions import Interactions
from trainer.recbole.contestant import Contestant
from trainer.recbole.judge import FIGURE, Curve, compare, figure
from trainer.recbole.stage import prepare
from trainer.recbole.task import Sizes

NAMES = {"ours": "streamrec", "theirs": "RecBole"}


@dataclass(frozen=True)
class Effort:
    """How long the peer goes on."""

    minutes: float = 20.0
    """Of CPU time in learning; the turn that is under way then is the last one."""
    patience: int = 12
    """It ends after so many turns that did not better its validation figure."""
    max_turns: int | None = None

    def is_spent(self, curve: Curve) -> bool:
        """Whether that was enough."""
        n, best = len(curve.turns), int(np.argmax(curve.figures)) if curve.figures else 0
        return bool(n) and (
            sum(one.cpu_seconds for one in curve.turns) >= 60 * self.minutes
            or n - 1 - best >= self.patience
            or n == self.max_turns
        )


def duel(
    folder: Path,
    events: Interactions,
    sizes: Sizes,
    our_command: Sequence[str],
    their_command: Sequence[str],
    effort: Effort,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """One model trained by both.

    Args:
        folder: Empty; theirs until the end.
        events: The log.
        sizes: The model.
        our_command: As `contestant.our_command`.
        their_command: As `contestant.their_command`.
        effort: When it ends.
        say: Told of each turn.

    Returns:
        For JSON: `sizes`, `ours` and `theirs` with all turns, and what `judge.compare` says.

    Raises:
        RecBoleError: If a side fails, or they do not learn the same number of targets in a pass.
    """
    queries = prepare(folder, events, sizes)
    curves = {name: Curve([], []) for name in NAMES}
    with (
        Contestant("ours", our_command, folder) as ours,
        Contestant("theirs", their_command, folder) as theirs,
    ):
        insist_on_the_same(ours.facts["n_targets"], theirs.facts["n_targets"])
        learning = [theirs, ours]
        while learning:
            for side in list(learning):
                curve = curves[side.name]
                done = None if side is theirs and effort.is_spent(curve) else side.learn()
                if done is None:
                    learning.remove(side)
                    continue
                curve.turns.append(done)
                curve.figures.append(_figure(side, queries))
                say(told(NAMES[side.name], curve))
    return {
        "sizes": asdict(sizes),
        "n_targets": ours.facts["n_targets"],
        "n_queries": len(queries),
        "ours": {**ours.facts, **curves["ours"].to_json()},
        "theirs": {**theirs.facts, **curves["theirs"].to_json()},
        **compare(curves["ours"], curves["theirs"]),
    }


def _figure(side: Contestant, queries: Queries) -> float:
    try:
        return figure(queries, side.vectors())
    except ValueError as error:
        raise RecBoleError(f"{NAMES[side.name]} cannot be ranked: {error}; a lower learning rate may help") from error


def insist_on_the_same(ours: int, theirs: int) -> None:
    """Both must learn the same target positions, or their speeds say nothing.

    Raises:
        RecBoleError: If they do not.
    """
    if ours != theirs:
        raise RecBoleError(
            f"streamrec learns {ours:,} target positions in a pass and RecBole {theirs:,}, so nothing can be compared; "
            "look at how many events each user has, and at the versions in trainer/recbole/requirements.txt"
        )


def told(name: str, curve: Curve) -> str:
    """One line on the newest turn.

    Example:
        >>> told("RecBole", Curve([Turn(3000, 6.5, seconds=1.5, cpu_seconds=1)], [0.05]))
        'RecBole    turn  1:    2,000 targets/s, loss 6.500, ndcg@10 0.0500 after 1.5 s'
    """
    newest, total_s = curve.turns[-1], sum(one.seconds for one in curve.turns)
    return (
        f"{name:10} turn {len(curve.turns):2}: {newest.n_targets / newest.seconds:8,.0f} targets/s, "
        f"loss {newest.loss:.3f}, {FIGURE} {curve.figures[-1]:.4f} after {total_s:,.1f} s"
    )
