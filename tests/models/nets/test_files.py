"""Laws of finding a net of the user's own."""

import sys
from pathlib import Path

import pytest

from models.base.errors import TrainingError
from models.nets.files import INSTALLED, load_factory, locate


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with modules called like ours and like a dependency."""
    for name, says in (("models", "mine"), ("numpy", "mine too"), ("deep/er/net", "deep")):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"def make():\n    return {says!r}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("models:make", "mine"),
        ("numpy:make", "mine too"),
        ("deep.er.net:make", "deep"),
        ("deep/er/net.py:make", "deep"),
    ],
)
def test_a_module_is_loaded_from_its_file_whatever_it_is_called(
    name: str, says: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {name: sys.modules[name] for name in ("models", "numpy")}
    factory, folder = locate(name, here)
    monkeypatch.chdir("/")
    assert load_factory(factory, folder)() == says
    assert ours == {name: sys.modules[name] for name in ours}


def test_what_lies_beside_a_net_is_searched_last(here: Path) -> None:
    (here / "net.py").write_text("import json\nfrom beside import make\nok = json.dumps\n")
    (here / "json.py").write_text("raise RuntimeError('not this one')\n")
    (here / "beside.py").write_text("def make():\n    return 'beside'\n")
    assert load_factory(*locate("net:make", here))() == "beside"
    assert sys.path[-1] == str(here)


def test_an_installed_module_is_taken_from_where_it_is_installed(
    here: Path, tmp_path: Path
) -> None:
    assert locate("torch.nn:Identity", here) == ("torch.nn:Identity", INSTALLED)
    (here / "torch").mkdir()
    (here / "torch" / "nn.py").write_text("raise RuntimeError('came later')\n")
    assert load_factory("torch.nn:Identity", INSTALLED).__name__ == "Identity"


def test_a_net_that_is_gone_is_said_to_be_and_found_where_it_is_put_back(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = locate("deep.er.net:make", here)
    (here / "deep" / "er" / "net.py").rename(here / "moved.py")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    with pytest.raises(TrainingError, match=rf"deep/er/net\.py is gone from {here}.*put it back"):
        load_factory(name, folder)
    (here / "moved.py").rename(elsewhere / "deep" / "er" / "net.py")
    assert load_factory(name, folder)() == "deep"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:make", r"there is no nowhere\.py in .*, and no installed module 'nowhere'"),
        ("no/where.py:make", r"no/where\.py is not a file"),
        ("a.b.py:make", r"is not a Python file without a dot in its name"),
        ("no.where:make", "there is no no/where.py"),
    ],
)
def test_a_name_that_leads_nowhere_is_an_error(name: str, says: str, here: Path) -> None:
    (here / "a.b.py").touch()
    with pytest.raises(TrainingError, match=says):
        locate(name, here)


def test_an_import_that_reached_a_package_of_ours_is_told_apart(here: Path) -> None:
    (here / "models.py").write_text("from models.blocks import Block\n")
    with pytest.raises(TrainingError, match=r"models is a package of Holdfast's own"):
        load_factory(*locate("models:make", here))
