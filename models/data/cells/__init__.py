"""Cells of a table: one law from text to number or category, for files and for clients."""

from models.data.cells.categories import key_of, key_of_number, missing_keys, places_of, spell_key
from models.data.cells.numbers import missing_numbers, read_number
from models.data.cells.words import MISSING_WORDS, means_missing

__all__ = [
    "MISSING_WORDS",
    "key_of",
    "key_of_number",
    "means_missing",
    "missing_keys",
    "missing_numbers",
    "places_of",
    "read_number",
    "spell_key",
]
