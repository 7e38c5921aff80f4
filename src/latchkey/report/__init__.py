"""What came out of training, for people: tables, figures, overlays, and pages that need nothing but a browser."""

from latchkey.report.comparison import (
    Comparison,
    Curve,
    DataDescription,
    Overlay,
    Row,
    StepTime,
)
from latchkey.report.estimate import Difference, Estimate
from latchkey.report.files import read_comparison, write_comparison, write_run
from latchkey.report.markdown import comparison_markdown
from latchkey.report.page import comparison_report, run_report
from latchkey.report.terminal import print_comparison

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
