"""Labels become numbered classes; rare ones may go, and columns that give them away are named."""

from models.data.labels.numbering import Labels, drop_rare, label_rows, number_labels
from models.data.labels.suspicions import judge_column, note_suspicions

__all__ = [
    "Labels",
    "drop_rare",
    "judge_column",
    "label_rows",
    "note_suspicions",
    "number_labels",
]
