"""The cost of a model, computed from shapes only."""

from fewpairs.cost.breakdown import CostBreakdown, TermCost, cost_breakdown
from fewpairs.cost.terms import TERMS

__all__ = ["TERMS", "CostBreakdown", "TermCost", "cost_breakdown"]
