"""Checkpoints of a training run: one that was killed is taken up, and ends with the weights that it would have had.

A checkpoint is one file that is replaced as a whole: the fit's state, the results of what is over, and what the run
trains on, as of which reading of the archive. It is safetensors with JSON in its header, never pickle.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from encoders.durable import sync
from trainer.archive.files import HeldError, locked
from trainer.fit_state import FitState, Saved
from trainer.log import Snapshot

FORMAT_VERSION = 1
TAKEN_UP_WITHIN_S = 24 * 3600
"""A run that was interrupted longer ago is not taken up: a new one knows what has come since."""


class Checkpoint:
    """What is kept of a run while it goes on, so that it can be taken up if it is killed; use it as a context.

    The run has parts, one after the other, each with a fit of its own. On entry, a run that was interrupted is taken
    up. Of two runs that go on at once with the same file, the second keeps nothing.

    Args:
        path: The file; without one, nothing is kept.
        run: Whatever decides the weights beside the interactions. A run is only taken up by one with the same.
        snapshot: What of an archive the run trains on; without one, `run` names that, too.
        every_s: How often the state of a fit is kept.
        say: Told in plain words what a user should know.
        clock: Seconds, from any moment on.
    """

    snapshot: Snapshot | None
    """What of an archive the run trains on: where a run was taken up, what that one did."""
    results: dict[str, Any]
    """Of the parts that are over, for JSON; kept with the next state."""

    def __init__(
        self,
        path: Path | None,
        run: dict[str, Any],
        snapshot: Snapshot | None,
        every_s: float,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._every_s, self._say, self._clock = path, every_s, say, clock
        self._run = fingerprint(run) if path else ""
        self.snapshot, self.results = snapshot, {}
        self._part = ""
        self._saved: Saved | None = None
        self._kept_s, self._failed = clock(), False
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        if self._path:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.enter_context(locked(self._path.with_suffix(".lock")))
            except (HeldError, OSError) as reason:
                self._say(f"Nothing is kept of this run in {self._path}, so it cannot be taken up: {reason}")
                self._path = None
            else:
                self._take_up(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def part(self, name: str) -> FitState:
        """The state of a part's fit: a fresh one, or where it was interrupted."""
        saved = self._saved if name == self._part else None
        if self._part and not saved:
            self._kept_s = -inf  # with the first batch, the results of what is over are kept
        self._part, self._saved = name, None
        return FitState(saved=saved, on_step=self._keep_when_due)

    def keep(self, state: FitState) -> None:
        """Write the state of a part's fit. A disk that does not take it is told, once: the run goes on."""
        self._kept_s = self._clock()
        if not self._path:
            return
        tensors, numbers = state.capture()
        header = {
            "run": self._run,
            "snapshot": self.snapshot and self.snapshot.model_dump(mode="json"),
            "part": self._part,
            "results": self.results,
            "numbers": numbers,
        }
        try:
            write_tensors(self._path, tensors, header)
        except (OSError, SafetensorError) as error:
            if not self._failed:
                self._say(f"  cannot keep {self._path}: {error}; if this run is killed, it must begin anew")
            self._failed = True

    def clear(self) -> None:
        """The run is over."""
        try:
            if self._path:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            self._say(f"  cannot remove {self._path}: {error}; remove it, or the next run takes this one up again")

    def _keep_when_due(self, state: FitState) -> None:
        if self._clock() - self._kept_s >= self._every_s:
            self.keep(state)

    def _take_up(self, path: Path) -> None:
        try:
            found = read_tensors(path, self._run)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            self._say(f"{path} is damaged, so this run begins anew: {error}")
            return
        if found is None:
            return
        header, tensors = found
        later = ""
        if self.snapshot:
            then, now = Snapshot.model_validate(header["snapshot"]), self.snapshot
            if then.commit.archive_id != now.commit.archive_id or now.now_ms - then.now_ms > 1000 * TAKEN_UP_WITHIN_S:
                return
            n_new, self.snapshot = now.commit.n_records - then.commit.n_records, then
            later = f"; the {n_new:,} records that came since are for the next run" if n_new else ""
        self.results = header["results"]
        self._part, self._saved = header["part"], Saved(tensors, header["numbers"])
        epoch, _, step, *_ = header["numbers"]["position"]
        self._say(f"Taking up the run that was interrupted, in its {self._part}: epoch {epoch}, step {step:,}{later}")


def fingerprint(run: dict[str, Any]) -> str:
    """A hash of whatever decides a run's weights beside the interactions: its settings, torch, and these sources."""
    content = sha256(json.dumps({**run, "torch": str(torch.__version__)}, sort_keys=True).encode())
    root = Path(__file__).resolve().parent.parent
    for path in sorted(path for package in ("encoders", "trainer") for path in (root / package).rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: dict[str, Any]) -> None:
    """Write a file that is there whole or not at all.

    Args:
        path: The file, which is replaced.
        tensors: What it holds.
        header: What it says of them, for JSON; under ``run`` the fingerprint of the run that they are of.

    Raises:
        OSError, SafetensorError: If it cannot be written.
    """
    scratch = path.with_suffix(".writing")
    try:
        plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        whole = {**header, "format_version": FORMAT_VERSION}
        save_file(plain, scratch, metadata={"streamrec": json.dumps({**whole, "sha256": _checksum(whole, plain)})})
        sync(scratch)
        scratch.replace(path)
        sync(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def read_tensors(path: Path, run: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """What `write_tensors` wrote of a run; None where there is none, or one of another run.

    Raises:
        OSError, SafetensorError, ValueError, KeyError: If it cannot be read, or is not what was written.
    """
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})["streamrec"])
        if header["format_version"] != FORMAT_VERSION or header["run"] != run:
            return None
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    if header.pop("sha256") != _checksum(header, tensors):
        raise ValueError("its contents are not what was written")
    return header, tensors


def _checksum(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    content = sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        content.update(name.encode())
        content.update(tensors[name].numpy().reshape(-1).data)  # no copy
    return content.hexdigest()
