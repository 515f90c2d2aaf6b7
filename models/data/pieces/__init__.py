"""A file in pieces, one after the other: rows of a file that is larger than memory."""

from models.data.pieces.opened import READ, files_in, open_pieces
from models.data.pieces.piece import Block, Piece, Wanted, block_rows

__all__ = ["READ", "Block", "Piece", "Wanted", "block_rows", "files_in", "open_pieces"]
