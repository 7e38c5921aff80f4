"""What the attention of a model does with one image: what is kept, what is dropped, and what that changes."""

from fewpairs.inspection.page import WrittenInspection, write_page
from fewpairs.inspection.result import BlockStudy, Inspection, LayerStudy, Row, Subject, Target
from fewpairs.inspection.study import inspect_attention

__all__ = ["BlockStudy", "Inspection", "LayerStudy", "Row", "Subject", "Target"]
__all__ += ["WrittenInspection", "inspect_attention", "write_page"]
