"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi

import numpy as np
import torch
from torch import Tensor, nn

from encoders.bundle import NETWORKS
from encoders.neural import SequenceModule
from encoders.vocabulary import PADDING_ITEM
from encoders.window import WindowRule
from trainer.dataset import TrainingRows
from trainer.errors import TrainingError
from trainer.fit_state import FitState
from trainer.losses import Seen, bpr_loss, full_softmax_loss, gbce_loss, sampled_softmax_loss
from trainer.negatives import NegativeSampler
from trainer.settings import TrainerSettings

MAX_GRADIENT_NORM = 5.0
WARMUP_STEPS = 20
LEAST_RATE = 0.05
"""What the learning rate falls to, relative to its peak."""
BATCHES_IN_A_POOL = 16
"""Rows of so many batches are sorted by length together; the more, the less padding and the less chance."""
ROWS_AT_ONCE = 64
"""Validation rows whose logits are held in memory together."""


@dataclass(frozen=True)
class FitProgress:
    """Where a fit is."""

    epoch: int
    step: int
    n_steps: int
    loss: float
    """Mean over the epoch so far."""
    validation_loss: float | None
    """After the last epoch that is over; None where there is none or nothing to validate on."""


Report = Callable[[FitProgress], None]


def insist_on_device(settings: TrainerSettings) -> None:
    """Refuse a device that is not there.

    Raises:
        TrainingError: If it is not.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "trainer.device is cuda, but torch finds no such device: install a build of torch for CUDA and its driver,"
            " or train on the cpu"
        )


def build_model(n_items: int, settings: TrainerSettings, max_len: int = WindowRule().max_len) -> SequenceModule:
    """A fresh model of the kind that the settings name; the seed decides its weights.

    Args:
        n_items: How many items there are.
        settings: Kind and sizes.
        max_len: Most items of a window, for the kinds that must know.

    Raises:
        ValidationError: If the settings' sizes do not go together.
    """
    torch.manual_seed(settings.seed)
    encoder = NETWORKS[settings.model]
    given = {**settings.model_dump(), "max_len": max_len}
    config = encoder.Config.model_validate({name: given[name] for name in encoder.Config.model_fields})
    module: SequenceModule = encoder.build(n_items, config)
    return module


def fit(
    module: SequenceModule,
    rows: TrainingRows,
    validation: TrainingRows | None,
    settings: TrainerSettings,
    report: Report,
    state: FitState | None = None,
) -> int:
    """Train with early stopping; the module ends with the weights of its best epoch, and on the processor.

    Args:
        module: Trained in place.
        rows: What to learn.
        validation: What decides which epoch is best; without it, it is the last.
        settings: Rates, sizes, patience and the seed.
        report: Called after each step.
        state: Where the fit is; without it, at its beginning.

    Returns:
        The best epoch, counted from 1.

    Raises:
        TrainingError: If the loss stops being a number.
    """
    state = state or FitState()
    loop = _Loop(module, rows, settings, settings.learning_rate, settings.max_epochs, report, state)
    for epoch in range(state.epoch, settings.max_epochs + 1):
        loop.run_epoch(epoch)
        if validation is None or not len(validation):
            continue
        state.validated(mean_loss(module, validation, bool(settings.seen_negatives)))
        if state.best_epoch and epoch - state.best_epoch >= settings.patience:
            break
    module.cpu()
    if state.best_weights:
        module.load_state_dict(state.best_weights)
    return state.best_epoch or settings.max_epochs


def refresh(
    module: SequenceModule,
    rows: TrainingRows,
    settings: TrainerSettings,
    report: Report,
    state: FitState | None = None,
) -> None:
    """Let a fitted model learn all events, in few passes at a lower rate.

    Raises:
        TrainingError: If the loss stops being a number.
    """
    rate = settings.learning_rate * settings.refresh_rate
    state = state or FitState()
    loop = _Loop(module, rows, settings, rate, settings.refresh_epochs, report, state)
    for epoch in range(state.epoch, settings.refresh_epochs + 1):
        loop.run_epoch(epoch)
    module.cpu()


@torch.inference_mode()
def mean_loss(module: SequenceModule, rows: TrainingRows, seen_negatives: bool = False) -> float:
    """Mean full softmax loss over all targets of the rows, without dropout."""
    module.eval()
    inputs_RT, targets_RT = torch.from_numpy(rows.inputs), torch.from_numpy(rows.targets)
    lengths_R, total, device = torch.from_numpy(rows.lengths), 0.0, module.item_embeddings.weight.device
    for some in torch.split(torch.argsort(lengths_R), ROWS_AT_ONCE):
        longest = int(lengths_R[some].max())
        inputs, targets = (cells[some, :longest].long().to(device) for cells in (inputs_RT, targets_RT))
        place = targets > 0
        seen = None if seen_negatives else Seen.before(inputs, place)
        loss = full_softmax_loss(module(inputs)[place], targets[place], module.item_embeddings.weight, seen)
        total += float(loss) * int(place.sum())
    return total / rows.n_targets


def rate_at(step: int, n_steps: int) -> float:
    """Learning rate of a step, relative to its peak: a short rise, then half a cosine down.

    Example:
        >>> round(rate_at(0, 1000), 2), round(rate_at(500, 1000), 2), round(rate_at(999, 1000), 2)
        (0.05, 0.53, 0.05)
    """
    fallen = LEAST_RATE + (1 - LEAST_RATE) * (1 + cos(pi * step / n_steps)) / 2
    return min(1.0, (step + 1) / WARMUP_STEPS) * fallen


def batches(lengths: Tensor, batch_size: int, random: torch.Generator) -> list[Tensor]:
    """All rows in random order, in batches of rows that are about as long, so that little of one is padding.

    Args:
        lengths: Of the rows. Shape: ``(R,)``.
        batch_size: Rows of a batch.
        random: The source of chance.

    Returns:
        Places of rows, at most ``batch_size`` in each batch.
    """
    order = torch.randperm(len(lengths), generator=random)
    found = [
        pool[among]
        for pool in torch.split(order, batch_size * BATCHES_IN_A_POOL)
        for among in torch.split(torch.argsort(lengths[pool], stable=True), batch_size)
    ]
    return [found[place] for place in torch.randperm(len(found), generator=random).tolist()]


def without_some(windows_BT: Tensor, share: float) -> Tensor:
    """Windows with a share of their items blanked out, by torch's own chance: places stay, items become padding.

    A model then cannot rely on the newest item alone, nor on any other.

    References:
        Tan, Xu and Liu, "Improved recurrent neural networks for session-based recommendations", DLRS 2016.
    """
    if not share:
        return windows_BT
    return windows_BT.masked_fill(torch.rand(windows_BT.shape, device=windows_BT.device) < share, PADDING_ITEM)


class _Loop:
    """One optimiser with its schedule over a number of epochs."""

    def __init__(
        self,
        module: SequenceModule,
        rows: TrainingRows,
        settings: TrainerSettings,
        rate: float,
        n_epochs: int,
        report: Report,
        state: FitState,
    ) -> None:
        insist_on_device(settings)
        self._module, self._settings, self._rate, self._report = module.to(settings.device), settings, rate, report
        self._take(rows)
        self._random = torch.Generator().manual_seed(settings.seed)
        self._n_items = len(module.item_embeddings.weight) - 1
        counts = torch.from_numpy(rows.counts(self._n_items))
        power = settings.negatives_power if settings.loss == "softmax" else 0.0
        self._sampler = NegativeSampler(counts, settings.n_negatives, power, self._random)
        self._optimiser = torch.optim.AdamW(
            module.parameters(),
            lr=rate,
            betas=(0.9, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._n_steps = n_epochs * -(-len(rows) // settings.batch_size)
        self._state = state
        state.bind(module, self._optimiser, self._random)

    def _take(self, rows: TrainingRows) -> None:
        self._rows = rows
        self._inputs, self._targets = torch.from_numpy(rows.inputs), torch.from_numpy(rows.targets)
        self._lengths = torch.from_numpy(rows.lengths)

    def run_epoch(self, epoch: int) -> None:
        # By the epoch's number, not by what was drawn before: a fit that is taken up in its midst has the same rows.
        if (rows := self._rows.anew(np.random.default_rng((self._settings.seed, epoch)))) is not self._rows:
            self._take(rows)
        self._module.train()
        state = self._state
        for batch in state.left(epoch, self._batches):
            longest = int(self._lengths[batch].max())
            inputs, targets = self._inputs[batch, :longest].long(), self._targets[batch, :longest].long()
            loss = self._learn(inputs.to(self._settings.device), targets.to(self._settings.device))
            if not isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {epoch}; lower trainer.learning_rate, now "
                    f"{self._settings.learning_rate}"
                )
            state.learned(loss)
            mean = state.loss_sum / state.n_done
            self._report(FitProgress(epoch, state.step, self._n_steps, mean, state.validation_loss))

    def _batches(self) -> Sequence[Tensor]:
        return batches(self._lengths, self._settings.batch_size, self._random)

    def _learn(self, inputs_BT: Tensor, targets_BT: Tensor) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * rate_at(self._state.step, self._n_steps)
        place_BT = targets_BT > 0
        seen = None if self._settings.seen_negatives else Seen.before(inputs_BT, place_BT)
        windows_BT = without_some(inputs_BT, self._settings.item_dropout)
        loss = self._loss(self._module(windows_BT)[place_BT], targets_BT[place_BT], seen)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types here
        nn.utils.clip_grad_norm_(self._module.parameters(), MAX_GRADIENT_NORM)
        self._optimiser.step()
        return loss.item()

    def _loss(self, queries_PD: Tensor, targets_P: Tensor, seen: Seen | None) -> Tensor:
        settings, asked = self._settings, (queries_PD, targets_P, self._module.item_embeddings.weight)
        if settings.loss == "softmax" and self._n_items <= settings.n_negatives:
            return full_softmax_loss(*asked, seen)
        negatives = self._sampler.draw().to(settings.device)
        match settings.loss:
            case "softmax":
                return sampled_softmax_loss(*asked, *negatives, seen)
            case "bpr":
                return bpr_loss(*asked, negatives.items_N, seen)
            case "bce":
                return gbce_loss(*asked, negatives.items_N, 0.0, seen)
            case "gbce":
                return gbce_loss(*asked, negatives.items_N, settings.gbce_calibration, seen)
