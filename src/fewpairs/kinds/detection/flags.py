"""Options of prediction that runs of this kind have."""

from fewpairs.kinds.flags import Flag

FLAGS = (
    Flag(
        "--threshold",
        float,
        "Least score of the objects that are counted and drawn; 0.5 by default.",
        least=0,
        most=1,
    ),
)
