"""Options of `fewpairs predict` for detection runs."""

from fewpairs.kinds.flags import Flag

FLAGS = (
    Flag(
        "--threshold",
        float,
        "Lowest score of objects that are counted and drawn; 0.5 by default.",
        least=0,
        most=1,
    ),
)
