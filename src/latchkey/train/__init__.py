"""Training and evaluation on Hugging Face accelerate: one loop for one process or many."""

from latchkey.train.checkpoint import load_weights, read_metadata
from latchkey.train.config import FitConfig, OptimizerConfig, ScheduleConfig
from latchkey.train.engine import evaluate, fit
from latchkey.train.history import Evaluation, History
from latchkey.train.journal import read_history
from latchkey.train.log import read_log
from latchkey.train.processes import leave_processes
from latchkey.train.run_folder import RunFolder, describe_environment
from latchkey.train.signals import Interrupted

__all__ = [
    "Evaluation",
    "FitConfig",
    "History",
    "Interrupted",
    "OptimizerConfig",
    "RunFolder",
    "ScheduleConfig",
    "describe_environment",
    "evaluate",
    "fit",
    "leave_processes",
    "load_weights",
    "read_history",
    "read_log",
    "read_metadata",
]
