"""Benchmarks of speed and memory for operators and whole models, in interleaved runs that are checked first."""

from fewpairs.bench.cases import DEVICES, DTYPES, OPERATORS, PASSES, ModelCase, OperatorCase, parse_shape, parse_topk
from fewpairs.bench.check import CheckFailed
from fewpairs.bench.run import Options, Results, measure
from fewpairs.bench.sets import SETS, Goal, Selection, convert_selection, select

__all__ = [
    "DEVICES",
    "DTYPES",
    "OPERATORS",
    "PASSES",
    "SETS",
    "CheckFailed",
    "Goal",
    "ModelCase",
    "OperatorCase",
    "Options",
    "Results",
    "Selection",
    "convert_selection",
    "measure",
    "parse_shape",
    "parse_topk",
    "select",
]
