"""What a model costs, from shapes alone."""

from latchkey.cost.ledger import Ledger, Term, ledger
from latchkey.cost.terms import TERMS

__all__ = ["TERMS", "Ledger", "Term", "ledger"]
