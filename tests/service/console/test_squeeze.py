"""Scripts mean the same without their spaces, and the page stays within its budget."""

import gzip
import re
from pathlib import Path

import pytest

from service.console.page import FOLDER, read_page
from service.console.squeeze import squeeze_script, squeeze_style

MOST_BYTES, MOST_ZIPPED = 63_000, 23_300


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a + +b", "a+ +b"),
        ("x = y / 2 / z", "x=y/2/z"),
        ("f(/[/`'\"] /g, 1)", "f(/[/`'\"] /g,1)"),
        ('"a  //b" + `c  ${ d("`}") }  //e`', '"a  //b"+`c  ${ d("`}") }  //e`'),
        ("a\n  // one\n\n  b /* two */ c", "a\nb c"),
        ("return a in b", "return a in b"),
        ("f(\n  a,\n  {\n b };\n c\n d\n}\n(e)", "f(a,{b};c\nd\n}\n(e)"),
    ],
)
def test_only_needless_spaces_and_comments_go(text: str, wanted: str) -> None:
    assert squeeze_script(text) == wanted


def test_a_style_keeps_the_spaces_that_mean_something() -> None:
    assert squeeze_style("a :hover { margin : 0 auto }") == "a :hover{margin:0 auto}"
    assert squeeze_style("@media (min-width: 1px) and (x) { a { b: calc(1px + 2px) } }") == (
        "@media (min-width: 1px) and (x){a{b:calc(1px + 2px)}}"
    )


def test_the_page_stays_within_its_budget() -> None:
    page = read_page()
    files = [page.html, *(asset.body for asset in page.assets.values())]
    assert sum(map(len, files)) <= MOST_BYTES
    assert sum(len(gzip.compress(each)) for each in files) <= MOST_ZIPPED


def test_script_and_style_are_served_under_names_with_digests_and_for_ever() -> None:
    page = read_page()
    assert [name.partition(".")[0] for name in page.assets] == ["style", "main"]
    for name, asset in page.assets.items():
        assert re.fullmatch(r"[a-z]+\.[0-9a-f]{10}\.(js|css)", name)
        assert ("Cache-Control", "public, max-age=31536000, immutable") in asset.headers
        assert f'"/console/page/{name}"'.encode() in page.html
    assert b"style=" not in page.html
    assert re.search(rb"<script(?! type=\"module\" src=)", page.html) is None


def test_every_module_is_in_the_script_once_after_what_it_imports() -> None:
    page = read_page()
    script = next(a.body.decode() for name, a in page.assets.items() if name.endswith(".js"))
    assert re.search(r"\b(import|export)\b[ {*]", script) is None
    names: list[str] = []
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        own = re.findall(r"^export (?:const|class) (\w+)", text, re.MULTILINE)
        assert own or path.name == "main.js", path.name
        for name in own:
            declared = re.search(rf"\b(?:const|class) {name}\b", script)
            assert declared is not None, f"{path.name} is loaded by nothing"
        names += own + re.findall(r"^(?:const|let|class|function) ([\w$]+)", text, re.MULTILINE)
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)


def test_modules_that_import_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / "style.css").write_text("")
    (tmp_path / "main.js").write_text('import { a } from "./other.js";\n')
    (tmp_path / "other.js").write_text('import { b } from "./main.js";\nexport const a = 1;\n')
    with pytest.raises(ValueError, match=r"main.js -> other.js -> main.js"):
        read_page(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        'import * as all from "./other.js";',
        'import { a } from "./other.js"',
        'import "./other.js";',
        "export { a };",
        "export default a;",
    ],
)
def test_what_cannot_be_joined_is_refused_and_named(line: str, tmp_path: Path) -> None:
    """Left in the script, it would be an error of its grammar: an empty console."""
    (tmp_path / "index.html").write_text("")
    (tmp_path / "style.css").write_text("")
    (tmp_path / "main.js").write_text(f"const a = 1;\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(f"main.js has what cannot be joined: {line}")):
        read_page(tmp_path)


def test_no_key_of_a_class_means_something_else() -> None:
    letters = re.findall(r'LETTERS = "([a-z]+)"', (FOLDER / "label.js").read_text())
    assert letters == ["abcdefhijklmnopqrtvwxyz"], "g goes to a view, s skips, u undoes"


def test_no_file_makes_markup_of_texts_or_keeps_a_token() -> None:
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        for never in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                      "localStorage", "sessionStorage", "document.cookie", "console."):  # fmt: skip
            assert never not in text, (path.name, never)
