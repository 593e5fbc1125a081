"""Where models are fitted."""

from __future__ import annotations

import pytest
import torch

from encoders.bundle import NETWORKS
from trainer.errors import TrainingError
from trainer.fit import build_model, insist_on_device
from trainer.settings import TrainerSettings

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.mark.parametrize("kind", NETWORKS)
def test_whatever_a_module_makes_is_on_the_device_of_its_windows(kind: str) -> None:
    """`meta` knows shapes alone, and refuses to meet tensors of the processor."""
    module = build_model(9, TrainerSettings(model=kind), max_len=200).to("meta").train()
    vectors = module(torch.ones(2, 150, dtype=torch.int64, device="meta"))
    assert vectors.device.type == "meta"
    vectors.sum().backward()


@NO_CUDA
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"trainer.device is cuda, but torch finds no such device"):
        insist_on_device(TrainerSettings(device="cuda"))


def test_the_processor_is_there() -> None:
    insist_on_device(TrainerSettings())
