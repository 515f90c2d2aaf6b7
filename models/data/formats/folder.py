"""Image folders: `class/name.png`, with `train` and `test` (or `val`) above the classes or not."""

from pathlib import Path

import numpy as np

from models.base.errors import DataError
from models.data.formats.images import Stack
from models.data.found import Files, by_role, is_image, role_of, visible, walk
from models.data.raw import Raw, RawPart, quote
from models.data.records import Source


def read(source: Source) -> Raw:
    """Decode the images of a folder; the classes are the names of the folders that hold them.

    Raises:
        DataError: no images, images outside a class, a class of the test part that training does
            not have, an image that cannot be decoded or differs in size or mode.
    """
    root = Path(source.path)
    parts, notes = _parts(root, source.test)
    names = tuple(sorted({folder.name for top in parts.train for folder in _classes(top)}))
    train, ignored = _decode(parts.train, names, root.name)
    test = None
    if parts.test:
        test, more = _decode(parts.test, names, f"the test part of {root.name}")
        ignored += more
    if ignored:
        told = f"{len(ignored)} files without an image's suffix were left out, such as {ignored[0]}"
        notes = (*notes, told)
    return Raw(root.name, train, test, names, notes)


def _parts(root: Path, test: str) -> tuple[Files, tuple[str, ...]]:
    """The folders that hold the class folders of each part."""
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images, one folder per class")
    if test and not Path(test).is_dir():
        raise DataError(f"{test}: expected a folder of images, one folder per class")
    named = (Path(test),) if test else ()
    tops = [entry for entry in visible(root) if entry.is_dir() and role_of(Path(entry.name))]
    # A class may be called "train", too: it is a part only with class folders below.
    if not any(_classes(top) for top in tops if role_of(Path(top.name)) == "train"):
        return Files((root,), named), ()
    files = by_role(root, tops, lambda top: role_of(Path(top.name)), named)
    return files, files.notes


def _classes(top: Path) -> list[Path]:
    return [entry for entry in visible(top) if entry.is_dir()]


def _decode(tops: tuple[Path, ...], names: tuple[str, ...], what: str) -> tuple[RawPart, list[str]]:
    """All images of a part, and the files left out."""
    files: list[Path] = []
    labels: list[int] = []
    ignored: list[str] = []
    for top in tops:
        loose = [entry for entry in visible(top) if is_image(entry) and entry.is_file()]
        if loose:
            raise DataError(f"{loose[0]}: an image outside the class folders; put it into one")
        for folder in _classes(top):
            if folder.name not in names:
                raise DataError(
                    f"{folder}: class {folder.name!r} does not occur in the training part; "
                    f"expected one of {quote(names)}"
                )
            for path in sorted(walk(folder)):
                if is_image(path):
                    files.append(path)
                    labels.append(names.index(folder.name))
                else:
                    ignored.append(str(path))
    if not files:
        raise DataError(f"{tops[0]}: no images found; expected class/name.png or .jpg, ...")
    stack = Stack(len(files), what)
    for path in files:
        stack.add(path, str(path))
    return RawPart(np.array(labels), lambda row: str(files[row]), pixels=stack.pixels), ignored
