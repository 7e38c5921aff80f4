"""Random numbers that depend on the image and not on the process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_generators(numbers: Sequence[int], *, stream: int = 0) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch (CPU) inside the block, then restore their states.

    `numbers` must not be negative; different streams of the same numbers are independent of each other.
    """
    words = np.random.SeedSequence([int(number) for number in numbers], spawn_key=(stream,)).generate_state(8)
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        random.seed(int(words[0]) << 32 | int(words[1]))
        np.random.seed(words[2:6])
        torch.default_generator.manual_seed(int(words[6]) << 31 | int(words[7]) >> 1)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
