"""Nothing that is read can run code: no pickle in any of its dresses, by the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "monitoring", "service")
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "read_pickle", "to_pickle", "unsafe_load"}
METHODS = {"eval", "compile"}  # net.eval(), re.compile()


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What in a module could run what it reads, or write what could."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            yield from (f"import {n}" for n in names if set(n.split(".")) & UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node)


def _unsafe_call(node: ast.Call) -> Iterator[str]:
    called, _, name = ast.unparse(node.func).rpartition(".")
    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if name in UNSAFE_CALLS and not (called and name in METHODS):
        yield ast.unparse(node.func)
    arrays = called in ("np", "numpy") and name in ("load", "save", "savez", "savez_compressed")
    if arrays and given.get("allow_pickle") != "False":
        yield f"np.{name} without allow_pickle=False"
    if called in ("torch", "yaml") and name in ("load", "load_all", "save"):
        yield f"{called}.{name}"


def test_nothing_that_is_read_can_run_code() -> None:
    sources = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert len(sources) > 100
    found = {
        str(path.relative_to(ROOT)): list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))
        for path in sources
    }
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "import torch, dill", "from a import pickle",
        "np.load(p)", "numpy.load(p, allow_pickle=True)", "np.load(p, allow_pickle=trust)",
        "np.savez(p, x=x)", "torch.load(p)", "torch.load(p, weights_only=True)", "eval(text)",
        "exec(text)", "yaml.load(text)", "pd.read_pickle(p)",
    ],
)  # fmt: skip
def test_what_could_is_found(code: str) -> None:
    assert list(unsafe(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["net.eval()", "re.compile(t)", "np.load(p, allow_pickle=False)", "yaml.safe_load(t)"]
)
def test_what_could_not_is_left_alone(code: str) -> None:
    assert not list(unsafe(ast.parse(code)))
