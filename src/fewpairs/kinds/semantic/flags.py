"""Options of prediction that runs of this kind have."""

from fewpairs.kinds.flags import Flag

FLAGS = (
    Flag(
        "--inference",
        str,
        "A setting of the run's inference to change, as flip=true; repeat for more.",
        repeated=True,
        section="inference",
    ),
)
