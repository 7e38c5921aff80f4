"""Rules that define the score of a class that is missing in the truth, in the prediction or in both."""

from __future__ import annotations

from enum import StrEnum


class EmptyRule(StrEnum):
    """The rule for empty masks. Under every rule a missed organ gets the worst possible score.

    The table holds for one class of one scan (of one slice for scores by slice):

    | truth / prediction | score                          | `STRICT` (default) | `CREDIT`    | `KAGGLE`    |
    | ------------------ | ------------------------------ | ------------------ | ----------- | ----------- |
    | present / empty    | Dice, Jaccard                  | 0                  | 0           | 0           |
    | present / empty    | HD95                           | diagonal (mm)      | diagonal    | diagonal    |
    | present / empty    | Kaggle Hausdorff score         | 0                  | 0           | 0           |
    | empty / present    | the same three                 | 0, diagonal, 0     | the same    | the same    |
    | empty / empty      | Dice, Jaccard of a scan        | not counted        | 1           | not counted |
    | empty / empty      | HD95                           | not counted        | 0 mm        | 0 mm        |
    | empty / empty      | Dice of a slice (Kaggle)       | always as `KAGGLE` | as `KAGGLE` | not counted |
    | empty / empty      | Hausdorff score (Kaggle)       | always as `KAGGLE` | as `KAGGLE` | 1           |

    "Diagonal" is the length of the scan's diagonal in mm, the largest distance between two of its voxels. A pair that
    is "not counted" enters neither the sum nor the count of a mean; a mean over no pairs is NaN.

    Pooled scores (`jaccard`, `dice` and their variants) are computed from voxel sums, to which an empty pair adds
    nothing under any rule. A class that occurs neither in the truth nor in the prediction of the whole evaluation set
    has no pooled score (NaN) and is left out of the macro mean; one that is only predicted scores 0 and stays in it.

    `CREDIT` rewards agreement on absence, as several challenges do. `KAGGLE` follows the winner's code and the host's
    comment in the UW-Madison competition; the score `kaggle` always uses it.
    """

    STRICT = "strict"
    CREDIT = "credit"
    KAGGLE = "kaggle"

    @property
    def absent_overlap(self) -> float | None:
        """Dice and Jaccard of a scan without the class in truth and prediction; None when it is not counted."""
        return 1.0 if self is EmptyRule.CREDIT else None

    @property
    def absent_distance(self) -> float | None:
        """HD95 in mm of a scan without the class in truth and prediction; None when it is not counted."""
        return None if self is EmptyRule.STRICT else 0.0

    @property
    def meaning(self) -> str:
        """A sentence about the rule, for reports."""
        absent = {
            EmptyRule.STRICT: "one that is in neither is not counted",
            EmptyRule.CREDIT: "one that is in neither scores full overlap and a distance of 0 mm",
            EmptyRule.KAGGLE: "one that is in neither is not counted as overlap and counts as a distance of 0 mm",
        }
        return (
            f"{self.value}: a class that only truth or only prediction holds in a scan scores 0 overlap and the scan's "
            f"diagonal as its distance; {absent[self]}"
        )
