"""Options of prediction that runs of this kind have."""

from fewpairs.kinds.flags import BATCH_SIZE, Flag

FLAGS = (Flag("--top", int, "How many classes of each picture are written; 5 by default.", least=1), BATCH_SIZE)
