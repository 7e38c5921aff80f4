from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from train_toy import ToyData, collate

from fewpairs.errors import DataError
from fewpairs.train.dataloader import BatchLoader
from fewpairs.train.sampler import BatchPlan, BatchSampler

PLAN = BatchPlan(size=12, batch_size=4, accumulate=2, seed=1)


def make_loader(data: ToyData, workers: int, stop: int = 3) -> BatchLoader:
    return BatchLoader(data, BatchSampler(PLAN, stop=stop), collate, device=torch.device("cpu"), workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_in_the_order_of_the_plan_whatever_loads_them(workers: int) -> None:
    loader, data = make_loader(ToyData(12), workers), ToyData(12)
    before = torch.get_rng_state()
    for step in range(3):
        for index in range(2):
            keys = PLAN.batch(step, index, 0)
            batch = loader.next()
            assert batch.ids == tuple(f"image-{number}" for _, number in keys)
            assert torch.equal(batch.image, torch.stack([data[key][0] for key in keys]))
    assert torch.equal(torch.get_rng_state(), before)


@dataclass
class Unreadable(ToyData):
    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        raise DataError(f"image {key[1]} is truncated")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_one_sentence_from_a_loading_process_too(workers: int) -> None:
    with pytest.raises(DataError) as error:
        make_loader(Unreadable(12), workers).next()
    assert str(error.value) == f"image {PLAN.batch(0, 0, 0)[0][1]} is truncated"


@dataclass
class Slow(ToyData):
    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        time.sleep(0.02)
        return super().__getitem__(key)


def test_waiting_is_measured() -> None:
    loader = make_loader(Slow(12), workers=0)
    loader.next()
    assert loader.waited >= 4 * 0.02
