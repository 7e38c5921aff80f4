"""Options of `fewpairs predict` for semantic segmentation runs."""

from fewpairs.kinds.flags import Flag

FLAGS = (
    Flag(
        "--inference",
        str,
        "An inference setting of the run to change, such as flip=true; can be repeated.",
        repeated=True,
        section="inference",
    ),
)
