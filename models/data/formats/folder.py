"""Image folders: `class/name.png`, with `train` and `test` (or `val`) above the classes or not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.base.errors import DataError
from models.data.formats.images import Stack, count_sizes
from models.data.found import Files, by_role, is_image, role_of, visible, walk
from models.data.pictures.resize import Fit, fit_of
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
    files = _list_files(parts.train, names)
    fit = fit_of(source.resize, lambda: count_sizes((path, str(path)) for path in files.images))
    stack, train = _decode(files, root.name, fit)
    sizes, ignored, test = stack.sizes, files.others, None
    if parts.test:
        files = _list_files(parts.test, names)
        stack, test = _decode(files, f"the test part of {root.name}", fit)
        sizes, ignored = sizes + stack.sizes, ignored + files.others
    if ignored:
        others = f"{len(ignored)} files without an image's suffix were left out"
        notes = (*notes, f"{others}, such as {ignored[0]}")
    if fit is not None:
        notes = (*notes, fit.note(sizes))
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


@dataclass(frozen=True)
class _Listed:
    """The images of a part with their labels, and the other files that lie there."""

    images: list[Path]
    labels: list[int]
    others: list[str]


def _list_files(tops: tuple[Path, ...], names: tuple[str, ...]) -> _Listed:
    """Raises DataError for images outside the classes, unknown classes, and no images at all."""
    listed = _Listed([], [], [])
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
                    listed.images.append(path)
                    listed.labels.append(names.index(folder.name))
                else:
                    listed.others.append(str(path))
    if not listed.images:
        raise DataError(f"{tops[0]}: no images found; expected class/name.png or .jpg, ...")
    return listed


def _decode(files: _Listed, what: str, fit: Fit | None) -> tuple[Stack, RawPart]:
    """All images of a part."""
    stack = Stack(len(files.images), what, fit)
    for path in files.images:
        stack.add(path, str(path))
    labels, images = np.array(files.labels), files.images
    return stack, RawPart(labels, lambda row: str(images[row]), pixels=stack.pixels)
