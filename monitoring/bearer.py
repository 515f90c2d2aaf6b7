"""The secret in an `Authorization` header, for both ports."""

import hmac


def bearer(header: str) -> str:
    r"""The secret, or nothing; the scheme in any case, any blanks between (RFC 9110, 11.1).

    >>> bearer("Bearer abc"), bearer("bearer  abc "), bearer("BEARER\tabc"), bearer("Basic abc")
    ('abc', 'abc', 'abc', '')
    """
    scheme, *rest = header.split(None, 1)[:2] or [""]
    return rest[0].strip() if rest and scheme.lower() == "bearer" else ""


def is_bearer(header: str, secret: str) -> bool:
    """Whether the header carries this secret, compared in constant time; nobody has an empty one.

    >>> is_bearer("bearer abc", "abc"), is_bearer("Bearer ", "")
    (True, False)
    """
    given = bearer(header)
    return bool(given) and hmac.compare_digest(given.encode(), secret.encode())
