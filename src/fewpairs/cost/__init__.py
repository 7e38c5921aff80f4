"""What a model costs, from shapes alone."""

from fewpairs.cost.breakdown import CostBreakdown, TermCost, cost_breakdown
from fewpairs.cost.terms import TERMS

__all__ = ["TERMS", "CostBreakdown", "TermCost", "cost_breakdown"]
