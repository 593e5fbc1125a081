"""What the demo found: its JSON, its table, and whether all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from streams.cli.demo.score import HitRates, Percentiles, Phase

JSON_PHASES = (Phase.STEADY, Phase.SWAP, Phase.TAKEOVER)


@dataclass(frozen=True)
class Summary:
    """Everything that was measured."""

    events_in: int
    """Valid interactions published."""
    recommendations_out: int
    """Lists received, repeats included."""
    lost: Sequence[str]
    """Event ids without a list."""
    duplicated: int
    """Lists beyond the first of each event."""
    state_mismatches: Sequence[str]
    n_sessions: int
    replay_rate: float
    """Events a second, on average over the replay."""
    latency: Mapping[Phase, Percentiles]
    rates: HitRates
    model_versions: Sequence[str]
    """Of the lists, in the order of their first list."""
    train_s: Sequence[float]
    """How long each training run took, start of the process to its end."""

    def to_json(self) -> dict[str, Any]:
        """What `--json` writes. Hit rates and percentiles are null where there was nothing to measure."""
        rates = self.rates
        return {
            "events_in": self.events_in,
            "recommendations_out": self.recommendations_out,
            "lost": len(self.lost),
            "duplicated": self.duplicated,
            "state_mismatches": len(self.state_mismatches),
            "replay_rate": round(self.replay_rate, 1),
            "latency_ms": {
                phase.value: {"p50": found.p50, "p95": found.p95, "p99": found.p99}
                for phase in JSON_PHASES
                for found in [self.latency[phase]]
            },
            "hit_rate_at_10": rates.all.rate,
            "hit_rate_at_10_known": rates.known.rate,
            "hit_rate_at_10_new": rates.new.rate,
            "popularity_hit_rate_at_10": rates.all.popularity_rate,
            "popularity_hit_rate_at_10_known": rates.known.popularity_rate,
            "popularity_hit_rate_at_10_new": rates.new.popularity_rate,
            "model_versions": list(self.model_versions),
            "train_s": [round(seconds, 1) for seconds in self.train_s],
        }

    def problems(self) -> list[str]:
        """What went wrong, one sentence each; empty if the demo did what it promises."""
        found = []
        if self.lost:
            found.append(f"{len(self.lost)} events got no list, among them {', '.join(self.lost[:3])}")
        if self.state_mismatches:
            n = len(self.state_mismatches)
            found.append(
                f"{n} sessions in Redis are not what the log amounts to, among them {self.state_mismatches[0]}"
            )
        if len(self.model_versions) < 2:
            served = ", ".join(self.model_versions) or "none"
            found.append(f"two model versions should have served, but lists came only from: {served}")
        return found

    def tables(self) -> list[Table]:
        """The same for people."""
        return [self._facts(), self._latencies(), self._hit_rates()]

    def _facts(self) -> Table:
        table = Table("what", "result", title="Summary", title_justify="left")
        table.add_row("events published", f"{self.events_in:,}")
        table.add_row("lists received", f"{self.recommendations_out:,}")
        table.add_row("events without a list (lost)", f"{len(self.lost):,}")
        table.add_row("lists sent again (duplicated)", f"{self.duplicated:,}")
        table.add_row(f"sessions that differ, of {self.n_sessions:,}", f"{len(self.state_mismatches):,}")
        table.add_row("replay", f"{self.replay_rate:,.0f} events/s")
        table.add_row("training", ", ".join(f"{seconds:.1f} s" for seconds in self.train_s))
        table.add_row("models that answered", "\n".join(self.model_versions))
        return table

    def _latencies(self) -> Table:
        table = Table("publish to receipt, ms", "events", "p50", "p95", "p99", title_justify="left")
        names = {
            Phase.STEADY: "steady",
            Phase.TRAINING: "while the trainer runs beside",
            Phase.SWAP: "while the model is swapped",
            Phase.TAKEOVER: "while a worker is dead",
        }
        for phase, name in names.items():
            found = self.latency[phase]
            numbers = (_number(found.p50), _number(found.p95), _number(found.p99))
            table.add_row(name, f"{found.n:,}", *numbers)
        return table

    def _hit_rates(self) -> Table:
        table = Table("next film in the list of 10", "targets", "streamrec", "popularity", title_justify="left")
        groups = (
            ("all users", self.rates.all),
            ("known to the model", self.rates.known),
            ("new to the model", self.rates.new),
        )
        for name, hits in groups:
            table.add_row(name, f"{hits.targets:,}", _share(hits.rate), _share(hits.popularity_rate))
        return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
