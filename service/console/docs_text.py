"""Texts of the reference page: prose, types in words, JSON, and curl commands."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup, escape

WIDTH = 50
ORIGIN = "http://127.0.0.1:8080"  # the page's script puts the true one in its place
HERE_IS = {
    "image/png": "--data-binary @picture.png",
    "image/jpeg": "--data-binary @picture.jpg",
    "multipart/form-data": "-F image=@picture.png",
}
_MARKS = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")
_NAMES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}


def prose(text: str) -> Markup:
    """Paragraphs with `code` and **strong** words; everything else is escaped.

    >>> print(prose("A `<b>` and **so**"))
    <p>A <code>&lt;b&gt;</code> and <strong>so</strong></p>
    """
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return Markup("\n").join(Markup("<p>{}</p>").format(inline(part)) for part in paragraphs)


def inline(text: str) -> Markup:
    """Return one paragraph as HTML, as `prose` does."""
    markup, end = Markup(), 0
    for match in _MARKS.finditer(text):
        tag = "code" if match[1] else "strong"
        markup += escape(text[end : match.start()])
        markup += Markup("<{0}>{1}</{0}>").format(Markup(tag), match[1] or match[2])
        end = match.end()
    return markup + escape(text[end:])


def pretty(value: Any, indent: int = 0, taken: int = 0) -> str:
    """Format JSON in lines of at most 50 characters where possible; short values stay on one.

    Args:
        value: plain data.
        indent: of the line that it begins on.
        taken: characters that stand before it on that line.

    >>> print(pretty({"a": [1, 2], "b": "x" * 40}))
    {
      "a": [1, 2],
      "b": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    }
    """
    short = json.dumps(value, ensure_ascii=False)
    fits = indent + taken + len(short) < WIDTH  # a comma may follow
    if fits or not isinstance(value, dict | list) or not value:
        return short
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, dict):
        names = {json.dumps(name, ensure_ascii=False): part for name, part in value.items()}
        lines = [f"{k}: {pretty(part, indent + 2, len(k) + 2)}" for k, part in names.items()]
        return "{\n" + ",\n".join(inner + line for line in lines) + f"\n{outer}}}"
    if any(isinstance(part, dict | list) for part in value):
        lines = [pretty(part, indent + 2) for part in value]
    else:
        lines = list(_fill_lines(value, indent + 2))
    return "[\n" + ",\n".join(inner + line for line in lines) + f"\n{outer}]"


def _fill_lines(values: list[Any], indent: int) -> Iterator[str]:
    """Put scalars into lines, as many as fit."""
    line = ""
    for text in (json.dumps(value, ensure_ascii=False) for value in values):
        if line and indent + len(line) + 2 + len(text) >= WIDTH:
            yield line
            line = ""
        line += f", {text}" if line else text
    yield line


def curl(method: str, path: str, media: str = "", body: Any = None, *, token: bool = False) -> str:
    """Return the curl command of a request; `body` is its JSON, or None."""
    parts = [f"curl {ORIGIN}{path}"]
    if method != "GET" and not media:
        parts[0] = f"curl -X {method} {ORIGIN}{path}"
    if token:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if media and media != "multipart/form-data":
        parts.append(f"-H 'Content-Type: {media}'")
    if media in HERE_IS:
        parts.append(HERE_IS[media])
    elif media:
        parts.append("--data '" + pretty(body).replace("'", "'\\''") + "'")
    return " \\\n  ".join(parts)


def in_words(schema: Mapping[str, Any]) -> str:
    """Describe the type and bounds of a simple schema.

    >>> in_words({"type": "number", "minimum": 0, "maximum": 1})
    'number, 0 to 1'
    >>> in_words({"type": ["integer", "null"], "minimum": 1})
    'integer or null, at least 1'
    """
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" if value else "an empty text" for value in schema["enum"])
    kinds = schema.get("type", "anything")
    names = [_NAMES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    if schema.get("format") == "binary":
        names = ["bytes"]
    return ", ".join([" or ".join(names), *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{low} to {high}"
    elif low is not None:
        yield f"at least {low}"
    elif high is not None and "exclusiveMinimum" not in schema:
        yield f"at most {high}"
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']}" + (f", at most {high}" if high else "")
    if "pattern" in schema:
        yield schema.get("description", f"like `{schema['pattern']}`")
    if "default" in schema:
        yield f"default `{json.dumps(schema['default'])}`"
