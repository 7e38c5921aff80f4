"""Reports of training runs: tables, figures, overlays, and self-contained HTML pages."""

from fewpairs.data.description import DataDescription
from fewpairs.report.comparison import Comparison, Curve, Overlay, Row, StepTime
from fewpairs.report.estimate import Difference, Estimate
from fewpairs.report.files import read_comparison, write_comparison, write_run
from fewpairs.report.markdown import comparison_markdown
from fewpairs.report.page import comparison_report, run_report
from fewpairs.report.terminal import print_comparison

__all__ = [
    "Comparison",
    "Curve",
    "DataDescription",
    "Difference",
    "Estimate",
    "Overlay",
    "Row",
    "StepTime",
    "comparison_markdown",
    "comparison_report",
    "print_comparison",
    "read_comparison",
    "run_report",
    "write_comparison",
    "write_run",
]
