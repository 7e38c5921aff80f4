"""Options of `fewpairs predict` for segmentation runs."""

from fewpairs.kinds.flags import BATCH_SIZE, Flag

FLAGS = (
    Flag(
        "--format",
        str,
        "Format of the masks; by default that of each input: NIfTI, PNG, or one CSV (UW-Madison).",
        choices=("nifti", "png", "csv"),
    ),
    Flag("--overlap", float, "Overlap of neighbouring windows, as a share of the window; 0.25 by default."),
    Flag("--axis", int, "Axis along which volumes are sliced; as in training by default.", least=0, most=2),
    Flag("--separate", bool, "Also write one file for each class, which keeps overlaps."),
    BATCH_SIZE,
)
