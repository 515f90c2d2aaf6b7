"""What may move: the changes that a version was judged against, in words."""

from models.versions.judging import ThreatModel


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
