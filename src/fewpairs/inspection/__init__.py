"""What the attention of a model does with one image: what is kept, what is dropped, and what that changes."""

from fewpairs.inspection.inspect_model import inspect_attention
from fewpairs.inspection.page import WrittenInspection, write_page
from fewpairs.inspection.result import BlockInspection, Inspection, LayerInspection, Row, Subject, Target

__all__ = ["BlockInspection", "Inspection", "LayerInspection", "Row", "Subject", "Target"]
__all__ += ["WrittenInspection", "inspect_attention", "write_page"]
