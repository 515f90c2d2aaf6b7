"""A net of the user's own: where its module lies, noted once and loaded from there again.

A module is loaded from its folder under a name of its own, so that a `models.py` of the user's is
neither mistaken for ours nor imported instead of it.
"""

import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

from models.base.errors import TrainingError

OURS = ("models", "monitoring", "service")
INSTALLED = ""  # in place of a folder


def locate(name: str, here: Path) -> tuple[str, str]:
    """The `module:factory` of a name and the folder it lies in (`INSTALLED` where in none).

    Args:
        name: `module:factory`, `package.module:factory`, or `path/to/file.py:factory`.
        here: the folder that is searched first.

    Raises:
        TrainingError: there is no such file, and no installed module of the name.
    """
    module, _, factory = name.rpartition(":")
    if module.endswith(".py"):
        file = (here / module).absolute()
        if not file.is_file() or "." in file.stem:
            wanted = "a Python file without a dot in its name" if file.is_file() else "a file"
            raise TrainingError(f"net {name!r} cannot be found: {file} is not {wanted}")
        return f"{file.stem}:{factory}", str(file.parent)
    if _file(module, here) is not None:
        return name, str(here.absolute())
    if _installed(module):
        return name, INSTALLED
    raise TrainingError(
        f"net {name!r} cannot be found: there is no {_show(module)} in {here.absolute()}, and no "
        f"installed module {module!r}"
    )


def load_factory(name: str, folder: str) -> Callable[..., Any]:
    """The factory of `module:factory`.

    Args:
        name: `module:factory`.
        folder: as `locate` gave it. Where the module is gone from it, the working directory is
            searched.

    Raises:
        TrainingError: it cannot be found, or its module raises.
    """
    module, _, factory = name.rpartition(":")
    chosen = _folder(name, module, folder)
    try:
        loaded = import_module(module if chosen is None else f"{_package(chosen)}.{module}")
        return getattr(loaded, factory)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise TrainingError(f"net {name!r} cannot be found: {error}{_hint(error)}") from error
    except Exception as error:  # whatever the user's module raises
        kind = type(error).__name__
        raise TrainingError(f"net {name!r}: its module raised {kind}: {error}") from error


def _folder(name: str, module: str, folder: str) -> Path | None:
    """Where the module is loaded from; None where it is installed."""
    here = Path.cwd()
    if folder == INSTALLED:
        return None
    for place in (Path(folder), here):
        if _file(module, place) is not None:
            return place
    raise TrainingError(
        f"net {name!r} cannot be found: {_show(module)} is gone from {folder}, where it was when "
        f"the version was trained; put it back there, or into {here}"
    )


def _file(module: str, folder: Path) -> Path | None:
    """The file of a dotted module below a folder."""
    base = folder.joinpath(*module.split("."))
    for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if file.is_file():
            return file
    return None


def _package(folder: Path) -> str:
    """A package whose modules are the files of `folder`; further imports find them last of all."""
    name = f"_net_{sha256(str(folder).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = module_from_spec(spec)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return name


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _show(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _hint(error: Exception) -> str:
    top = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ImportError) or top not in OURS:
        return ""
    return (
        f" ({top} is a package of Holdfast's own; import a file beside the net's as `from . import "
        "name`)"
    )
