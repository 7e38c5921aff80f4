"""Options of prediction that runs of this kind have."""

from fewpairs.kinds.flags import BATCH_SIZE, Flag

FLAGS = (Flag("--top", int, "Maximum number of classes written for each picture; 5 by default.", least=1), BATCH_SIZE)
