"""Cells of a table: one law from text to number or category, for files and for clients."""

from models.data.cells.categories import key_of, key_of_number, places_of, spell_key
from models.data.cells.numbers import read_number
from models.data.cells.words import MISSING_WORDS, means_missing

__all__ = [
    "MISSING_WORDS",
    "key_of",
    "key_of_number",
    "means_missing",
    "places_of",
    "read_number",
    "spell_key",
]
