"""What a model costs, from shapes alone."""

from latchkey.cost.compare import CostTable, compare
from latchkey.cost.ledger import Ledger, Term, ledger
from latchkey.cost.terms import TERMS

__all__ = ["TERMS", "CostTable", "Ledger", "Term", "compare", "ledger"]
