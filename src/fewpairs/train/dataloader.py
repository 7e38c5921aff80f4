"""Batches for the training loop, and the time that it waits for them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from fewpairs.errors import FewpairsError
from fewpairs.train.interruption import ignore_in_worker
from fewpairs.train.protocols import Batch, Items
from fewpairs.train.sampler import BatchSampler, Key

Collate = Callable[[Sequence[Any]], Batch]


class KeyedDataset(Protocol):
    """A data set whose samples depend only on epoch and index, not on a global random state."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Failure:
    """A FewpairsError that a loading process passes to the training process."""

    kind: type[FewpairsError]
    message: str


@dataclass(frozen=True, slots=True)
class _CatchErrors(Dataset[Any]):
    dataset: KeyedDataset | Items

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except FewpairsError as error:
            return _Failure(type(error), str(error))


@dataclass(frozen=True, slots=True)
class _CollateOrFail:
    collate: Collate

    def __call__(self, samples: Sequence[Any]) -> Batch | _Failure:
        for sample in samples:
            if isinstance(sample, _Failure):
                return sample
        return self.collate(samples)


class BatchLoader:
    """Load the batches of a plan onto `device`; `waited` counts the seconds spent waiting for them."""

    def __init__(
        self,
        dataset: KeyedDataset,
        batches: BatchSampler,
        collate: Collate,
        *,
        device: torch.device,
        workers: int,
    ) -> None:
        self.device, self.waited = device, 0.0
        loader: DataLoader[Any] = DataLoader(
            _CatchErrors(dataset),
            batch_sampler=batches,
            collate_fn=_CollateOrFail(collate),
            num_workers=workers,
            worker_init_fn=_start_worker if workers else None,
            # A generator of its own: the loader's seeds must not advance the global one, which resuming restores.
            generator=torch.Generator().manual_seed(batches.plan.seed),
            pin_memory=device.type == "cuda",
        )
        self._batches: Iterator[Batch | _Failure] = _iterate(loader)

    def next(self) -> Batch:
        """Return the next batch.

        Raises:
            FewpairsError: the data set raised it, in this or in a loading process.
        """
        started = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - started
        if isinstance(batch, _Failure):
            raise batch.kind(batch.message)
        return batch.to(self.device)


def load_items(items: Items, indices: Iterable[int], workers: int) -> Iterator[Any]:
    """Yield `items[index]` for each index; `workers` processes read ahead, 0 reads on demand.

    Raises:
        FewpairsError: an item raised it, in this or in a loading process.
    """
    loader: DataLoader[Any] = DataLoader(
        _CatchErrors(items),
        batch_size=None,
        sampler=list(indices),
        collate_fn=_unchanged,
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        generator=torch.Generator().manual_seed(0),
    )
    for item in _iterate(loader):
        if isinstance(item, _Failure):
            raise item.kind(item.message)
        yield item


def _iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads; the loader's processes run none of PyTorch's thread pool.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        return iter(loader)


def _unchanged(item: Any) -> Any:
    return item


def _start_worker(worker: int) -> None:
    ignore_in_worker()
