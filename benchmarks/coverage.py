"""How often intervals of a difference hold zero when two classifiers are equally good: the table of docs/scores.md.

Of 400 images 120 are right by chance of each training, with probability 0.6; between trainings this probability may
vary, so that accuracies of trainings differ as a whole. Both models of a pair are drawn alike, so every interval
without zero is wrong, and 5 % of such intervals are what a level of 95 % promises.

    python benchmarks/coverage.py --repeats 300
"""

from __future__ import annotations

import argparse

import numpy as np

from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.kinds.classification.scoring import ClassificationScoring

IMAGES, HARD, RIGHT = 400, 0.3, 0.6
CLASSES = ("first", "second")
SPREADS = (0.0, 0.01, 0.03, 0.1)
"""Standard deviation of the accuracy between trainings, beside chance on single images."""
SEEDS = (2, 3, 5, 10)


def evaluation(right: np.ndarray) -> list[ClassificationRecord]:
    """The records of one training that is right on these images."""
    records = []
    for number, found in enumerate(right):
        label = number % 2
        predicted = label if found else 1 - label
        records.append(ClassificationRecord(f"{number:04d}", label, 1 if found else 2, predicted, 0.5, 1.0, CLASSES))
    return records


def covered(seeds: int, spread: float, repeats: int, generator: np.random.Generator) -> tuple[float, float]:
    """The shares of intervals that hold zero: over images and seeds, and over images alone."""
    both = images = 0
    for _ in range(repeats):
        hard = generator.random(IMAGES) < HARD
        sides = [
            [
                evaluation(~hard | (generator.random(IMAGES) < RIGHT + spread / HARD * generator.normal()))
                for _ in range(seeds)
            ]
            for _ in range(2)
        ]
        found = ClassificationScoring().paired(*sides, metric="top1", margin=0.01, samples=400)
        if found.low is None or found.high is None or found.runs_low is None or found.runs_high is None:
            raise RuntimeError(f"no interval: {found.reason}")
        both += found.low <= 0 <= found.high
        images += found.runs_low <= 0 <= found.runs_high
    return both / repeats, images / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=300)
    repeats, generator = parser.parse_args().repeats, np.random.default_rng(0)
    print("seeds | " + " | ".join(f"spread {100 * spread:g} points" for spread in SPREADS))
    for seeds in SEEDS:
        shares = (covered(seeds, spread, repeats, generator) for spread in SPREADS)
        print(f"{seeds} | " + " | ".join(f"{both:.1%} / {images:.1%}" for both, images in shares), flush=True)


if __name__ == "__main__":
    main()
