"""Words as a sentence has them."""


def list_words(words: list[str], most: int = 3) -> str:
    """Words as a phrase; beyond `most` their number.

    >>> list_words(["a", "b"]), list_words(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])
