"""What may move: the changes that a version was judged against or proves answers for."""

from collections.abc import Mapping

from models.base.words import list_words
from models.versions.judging import Reach, ThreatModel
from models.versions.schema import InputSchema, Manifest


def tell_judged(threat: ThreatModel | None) -> str:
    """What a version was judged against; whether it was also trained against it is not said.

    Args:
        threat: of its evaluation; None: there is none.

    >>> tell_judged(ThreatModel(eps=0.15))
    'It was judged against 0.15.'
    >>> tell_judged(None)
    'It was not judged under attack.'
    """
    if threat is None:
        return "It was not judged under attack."
    if threat.norm != "linf":
        return (
            f"It was judged against changes of {threat.norm.upper()} length {threat.eps:g}, which "
            "says nothing of changes of each value as here."
        )
    return f"It was judged against {threat.eps:g}."


def find_judged_eps(threat: ThreatModel | None) -> float | None:
    """The greatest change of each value that a version was judged against, in units of the range.

    >>> find_judged_eps(ThreatModel(norm="l2", eps=1.0)), find_judged_eps(ThreatModel(eps=0.15))
    (None, 0.15)
    """
    return None if threat is None or threat.norm != "linf" else threat.eps


def find_columns(manifest: Manifest) -> Mapping[str, Reach]:
    """Shares of eps that named columns may move: those of the certificate, else of the judging."""
    if manifest.certificate is not None:
        return manifest.certificate.columns
    return {} if manifest.evaluation is None else manifest.evaluation.threat.columns


def share_of_columns(
    schema: InputSchema, columns: Mapping[str, Reach]
) -> tuple[tuple[float, float], ...]:
    """Which share of eps each column may fall and rise; nothing for images.

    Args:
        schema: of the inputs.
        columns: shares by name; other numbers move by 1, categories are held.
    """
    found = []
    for column in schema.columns:
        share = columns.get(column.name, 0.0 if column.kind == "categorical" else 1.0)
        found.append(share if isinstance(share, tuple) else (share, share))
    return tuple(found)


def tell_box(schema: InputSchema, columns: Mapping[str, Reach]) -> str:
    """What a change of a table leaves alone, or moves by less or more than eps; else nothing."""
    if schema.kind == "image":
        return ""
    numbers = {
        column.name: share
        for column, share in zip(schema.columns, share_of_columns(schema, columns), strict=True)
        if column.kind == "numeric"
    }
    held = [name for name, share in numbers.items() if share == (0.0, 0.0)]
    other = [
        f"{name} by {down:g} of it down and {up:g} up"
        for name, (down, up) in numbers.items()
        if (down, up) not in ((0.0, 0.0), (1.0, 1.0))
    ]
    kept = list_words([*held, "categories", "missing values"], most=6)
    moved = f" Otherwise: {list_words(other)}." if other else ""
    return f"Held: {kept}.{moved}"
