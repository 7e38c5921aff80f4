"""Inspection of the attention of a model on one image: which keys are kept or dropped, and what that changes."""

from fewpairs.inspection.inspect_model import inspect_attention
from fewpairs.inspection.page import WrittenInspection, write_page
from fewpairs.inspection.result import BlockInspection, Inspection, LayerInspection, Row, Subject, Target

__all__ = ["BlockInspection", "Inspection", "LayerInspection", "Row", "Subject", "Target"]
__all__ += ["WrittenInspection", "inspect_attention", "write_page"]
