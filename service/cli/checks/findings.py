"""What one check of `holdfast doctor` found, and what to do about it."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        what: was looked at.
        ok: whether it is as it should be.
        detail: what was found.
        fix: what to do where it is not; a command, or a sentence.
        optional: Holdfast works without it: it fails nothing.
    """

    what: str
    ok: bool
    detail: str
    fix: str = ""
    optional: bool = False


def passed(what: str, detail: str) -> Finding:
    """A check that went well."""
    return Finding(what, True, detail)


def failed(what: str, detail: str, fix: str) -> Finding:
    """A check of something that is needed."""
    return Finding(what, False, detail, fix)


def noted(what: str, detail: str, fix: str) -> Finding:
    """A check of something that Holdfast works without."""
    return Finding(what, False, detail, fix, optional=True)
