"""What a model costs, from shapes alone."""

from fewpairs.cost.ledger import Ledger, Term, ledger
from fewpairs.cost.terms import TERMS

__all__ = ["TERMS", "Ledger", "Term", "ledger"]
