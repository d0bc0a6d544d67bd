"""What switching off experts changed, in the folder of a run."""

from specialize.trace.ablation.conditions import Condition, LeadingSet, Removal
from specialize.trace.ablation.store import AblationStore

__all__ = ["AblationStore", "Condition", "LeadingSet", "Removal"]
