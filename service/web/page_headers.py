"""Headers of HTML pages: nothing loaded from elsewhere, no frames, no guessed media types.

Answers in JSON have none of them. Predictions are answers to POST, which caches do not store by
themselves (RFC 9110, section 9.3.3).
"""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256


def page_headers(
    scripts: Iterable[str] = (), styles: Iterable[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Return the headers of a self-contained page.

    Args:
        scripts: the text of each `<script>`; no other script runs.
        styles: the text of each `<style>`; `style=` attributes have no effect.

    >>> dict(page_headers(scripts=["1"]))["Content-Security-Policy"].split("; ")[1]
    "script-src 'self' 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"
    """
    policy = (
        "default-src 'none'",
        f"script-src 'self'{_hashes(scripts)}",
        f"style-src 'self'{_hashes(styles)}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return (
        ("Content-Security-Policy", "; ".join(policy)),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "no-cache"),
    )


def _hashes(texts: Iterable[str]) -> str:
    digests = (b64encode(sha256(text.encode()).digest()).decode() for text in texts)
    return "".join(f" 'sha256-{digest}'" for digest in digests)


SECURITY_HEADERS = page_headers()
