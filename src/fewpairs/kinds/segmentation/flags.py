"""Options of prediction that runs of this kind have."""

from fewpairs.kinds.flags import BATCH_SIZE, Flag

FLAGS = (
    Flag(
        "--format",
        str,
        "How masks are written; by default as each input: NIfTI, PNG, or one CSV (UW-Madison).",
        choices=("nifti", "png", "csv"),
    ),
    Flag("--overlap", float, "Share that neighbouring windows have in common; 0.25 by default."),
    Flag("--axis", int, "Axis along which volumes are cut; as in training by default.", least=0, most=2),
    Flag("--separate", bool, "Also write one file a class, overlaps kept."),
    BATCH_SIZE,
)
