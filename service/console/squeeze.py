"""Leaves out of scripts and styles what only their readers need: comments, indents, spaces.

Nothing is renamed or moved. Texts, templates and regular expressions stay as they are. A line ends
where it did, except after a sign that ends no statement or has ended one: so the rule by which
scripts end statements without a semicolon is not touched.
"""

import re

WORD = re.compile(r"[\w$]")
REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
JOINED = ";,{(["  # a line that ends with one of these needs no end of its own
BEFORE_REGEX = "(,=:[!&|?{};\n"  # after one of these a slash begins a regular expression


def squeeze_script(text: str) -> str:
    """A script without comments and needless spaces.

    >>> squeeze_script('const a = (b) => `${b} // c`; // said\\nif (a / 2) return /x \\\\/ y/;')
    'const a=(b)=>`${b} // c`;if(a/2)return/x \\\\/ y/;'
    """
    made: list[str] = []
    at, last = 0, "\n"
    while at < len(text):
        begin, char = at, text[at]
        if char in "\"'":
            at = _end_of_string(text, at)
        elif char == "`":
            at = _end_of_template(text, at)
        elif text.startswith("//", at):
            at = text.find("\n", at) % (len(text) + 1)
            continue
        elif text.startswith("/*", at):
            at = text.index("*/", at) + 2
            continue
        elif char == "/" and (last in BEFORE_REGEX or _after_return(made)):
            match = REGEX.match(text, at)
            assert match is not None, text[at : at + 40]
            at = match.end()
        elif char.isspace():
            at, space = _skip(text, at)
            following = text[at : at + 1]
            if "\n" in space:
                if last != "\n" and last not in JOINED:
                    made.append("\n")
                    last = "\n"
            elif _needs_space(last, following):
                made.append(" ")
            continue
        else:
            at += 1
        made.append(text[begin:at])
        last = text[at - 1]
    return "".join(made)


def squeeze_style(text: str) -> str:
    """A style sheet without comments, and with no space that it does not need.

    >>> squeeze_style("a , b {\\n  color : red ;\\n} /* x */ c > d { margin: 0 1px }")
    'a,b{color:red}c>d{margin:0 1px}'
    """
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text)
    return (
        re.sub(r" ?([{};,>]) ?", r"\1", re.sub(r" ?: (?=[^{}]*[;}])", ":", text))
        .replace(";}", "}")
        .strip()
    )


def _needs_space(before: str, after: str) -> bool:
    if WORD.match(before) and WORD.match(after or " "):
        return True
    return before in "+-" and before == after  # `a + +b` is no `a ++ b`


def _after_return(made: list[str]) -> bool:
    return "".join(made[-12:]).rstrip().endswith("return")


def _skip(text: str, at: int) -> tuple[int, str]:
    end = at
    while end < len(text) and text[end].isspace():
        end += 1
    return end, text[at:end]


def _end_of_string(text: str, at: int) -> int:
    quote, end = text[at], at + 1
    while text[end] != quote:
        end += 2 if text[end] == "\\" else 1
    return end + 1


def _end_of_template(text: str, at: int) -> int:
    end = at + 1
    while text[end] != "`":
        if text[end] == "\\":
            end += 2
        elif text.startswith("${", end):
            end = _end_of_braces(text, end + 2)
        else:
            end += 1
    return end + 1


def _end_of_braces(text: str, at: int) -> int:
    depth, end = 1, at
    while depth:
        char = text[end]
        if char in "\"'":
            end = _end_of_string(text, end)
            continue
        if char == "`":
            end = _end_of_template(text, end)
            continue
        depth += (char == "{") - (char == "}")
        end += 1
    return end
