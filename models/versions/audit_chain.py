"""The hash chain of an audit: each line holds the SHA-256 of the line before it.

    line_before of line k = sha256(line k - 1), its bytes without the end of the line
    of the first line     = sha256 of nothing; of `new_audit`, of the audit that is kept beside it
    of the first line after lines of a program that knew no chain = sha256 of all bytes before it

The bytes of a line are what the program wrote: one JSON object, its members in a fixed order and
without spaces. So the hash needs no other form of the record. The alias file holds the hash of the
last line (`head`): a last line that was changed or cut off shows, too.

What it does not do: who may write both files can compute all hashes anew. Note the head elsewhere
(`holdfast audit verify`), and a later `--head` says whether it is still in the chain.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

NOTHING = hashlib.sha256().hexdigest()
NEW_AUDIT = "new_audit"


class _Link(msgspec.Struct):
    """What the chain needs of a line."""

    line_before: str = ""
    action: str = ""


class Chain(NamedTuple):
    """What the lines of an audit say of each other.

    Args:
        links: of each line, what the next one has to hold.
        unchained: lines at the beginning that were written before there was a chain.
        broken: number of the first line that does not fit, from 1; 0 where all fit.
        reason: why it does not.
    """

    links: tuple[str, ...]
    unchained: int = 0
    broken: int = 0
    reason: str = ""

    @property
    def head(self) -> str:
        """What the next line has to hold."""
        return self.links[-1] if self.links else NOTHING


def follow_chain(lines: Sequence[bytes]) -> Chain:
    """Follow the chain through the lines of an audit, without their ends.

    >>> first = b'{"action":"publish","line_before":"%s"}' % NOTHING.encode()
    >>> follow_chain([first, b'{"line_before":"%s"}' % hash_bytes(first).encode()]).broken
    0
    >>> follow_chain([first, b'{"line_before":"%s"}' % NOTHING.encode()]).broken
    2
    """
    whole, links = hashlib.sha256(), list[str]()
    before, unchained, broken, reason = NOTHING, 0, 0, ""
    for number, line in enumerate(lines, 1):
        whole.update(line + b"\n")
        link = None
        try:
            link = msgspec.json.decode(line, type=_Link)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = f"it is no record: {error}"
        if link is not None:
            why = _misfit(link, number, before, unchained == number - 1)
        if link is not None and not link.line_before and unchained == number - 1:
            unchained, before = number, whole.hexdigest()
        else:
            before = hash_bytes(line)
        if why and not broken:
            broken, reason = number, why
        links.append(before)
    return Chain(tuple(links), unchained, broken, reason)


def _misfit(link: _Link, number: int, before: str, unchained: bool) -> str:
    """Why a line does not fit behind the one before; empty where it does."""
    if not link.line_before:
        return "" if unchained else "it holds no hash of the line before: an earlier program?"
    if number == 1 and link.action == NEW_AUDIT:
        return ""
    if link.line_before != before:
        earlier = "the line before was changed" if number > 1 else "lines before it are gone"
        return f"its hash is not that of the line before: {earlier}, or this one was put in"
    return ""


def hash_bytes(data: bytes) -> str:
    """SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()
