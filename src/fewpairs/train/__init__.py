"""Training and evaluation on Hugging Face accelerate, with one loop for one process or several."""

from fewpairs.train.checkpoint import load_weights, read_metadata
from fewpairs.train.config import FitConfig, OptimizerConfig, ScheduleConfig
from fewpairs.train.engine import evaluate, fit
from fewpairs.train.environment import describe_environment
from fewpairs.train.history import Evaluation, History
from fewpairs.train.interruption import Interrupted
from fewpairs.train.metrics_log import read_log
from fewpairs.train.processes import leave_processes
from fewpairs.train.recorder import read_history
from fewpairs.train.run_folder import RunFolder

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
