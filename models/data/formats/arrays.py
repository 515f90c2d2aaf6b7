"""NumPy `.npz` files: arrays of images or of a table, and their labels."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data import memory, tables
from models.data.pictures.resize import resize_parts
from models.data.raw import Raw, RawColumn, RawPart, quote, spans
from models.data.records import Source

Array = npt.NDArray[Any]
# np.savez(x, y) calls them arr_0 and arr_1.
INPUTS = ("x", "images", "image", "data", "features", "arr_0")
LABELS = ("y", "labels", "label", "target", "targets", "arr_1")
PARTS = {"train": ("train", ""), "test": ("test",), "validation": ("val", "valid", "validation")}
CLASS_NAMES = ("classes", "class_names", "label_names", "target_names")
COLUMN_NAMES = ("columns", "feature_names", "column_names")
# RuntimeError: encrypted, or packed in a way that Python cannot undo.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError)
MOST_CHANNELS = 16
COPIES = 2  # as it was stored, and as it is kept


def read(source: Source) -> Raw:
    """Images `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, or a table `(N, D)`, with labels.

    Class names may stand in an array `classes`, names of a table's columns in `columns`.

    Raises:
        DataError: no file of that kind, arrays of objects, no inputs or labels, lengths that
            differ, a shape that cannot be told, NaN in images.
    """
    path = Path(source.path)
    arrays = _Arrays(path, source)
    pieces = {part: arrays.pair(part) for part in PARTS}
    notes: tuple[str, ...] = ()
    if source.test:
        other = _Arrays(Path(source.test), source)
        pieces["test"] = other.pair("test") or other.pair("train")
        if pieces["test"] is None:
            raise other.nothing()
    train, test, validation = (pieces[part] for part in PARTS)
    if train is None:
        raise arrays.nothing()
    joined = [train]
    if validation is not None and test is not None:
        joined, notes = [train, validation], ("the validation part was added to training",)
    parts = [joined] + [[last] for last in (test or validation,) if last is not None]
    if len({piece.x.ndim == 2 for part in parts for piece in part}) > 1:
        raise DataError(f"{path}: some arrays are tables and some are images; expected one kind")
    made = [_part(part, arrays, source) for part in parts]
    fitted, resized = resize_parts(made, source.resize)
    return Raw(
        path.name,
        fitted[0],
        fitted[1] if len(fitted) > 1 else None,
        arrays.texts(CLASS_NAMES),
        (*notes, *resized),
    )


class _Piece:
    """Inputs and labels that belong together."""

    def __init__(
        self, where: str, x: Array, y: Array, names: tuple[str, str], groups: Array | None = None
    ) -> None:
        self.where, self.x, self.y, self.groups = where, x, y, groups
        if y.ndim == 2 and y.shape[1] == 1:
            self.y = y[:, 0]
        if self.y.ndim not in (1, 2):
            raise DataError(
                f"{where}: labels {names[1]!r} have shape {list(y.shape)}; expected [N], one a "
                "row, or one-hot [N, C]"
            )
        if groups is not None and groups.shape != (len(x),):
            raise DataError(
                f"{where}: the groups have shape {list(groups.shape)}; expected [{len(x)}], one a "
                "row"
            )
        if x.ndim not in (2, 3, 4):
            raise DataError(
                f"{where}: {names[0]!r} has shape {list(x.shape)}; expected a table [N, D] or "
                "images [N, H, W], [N, C, H, W] or [N, H, W, C]"
            )
        if len(x) != len(self.y):
            raise DataError(
                f"{where}: {names[0]!r} has {len(x)} rows, but {names[1]!r} has {len(self.y)}"
            )


class _Arrays:
    """The arrays of a file by their names in small letters, read when asked for."""

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.label, self.group = source.label, source.group
        try:
            with zipfile.ZipFile(path) as archive:
                sizes = {i.filename: i.file_size for i in archive.infolist()}
        except FileNotFoundError:
            raise DataError(f"no such file: {str(path)!r}") from None
        except DAMAGED as error:
            raise DataError(f"{path}: no .npz file, or a damaged one ({error})") from error
        self.names = {n.removesuffix(".npy").lower(): n.removesuffix(".npy") for n in sizes}
        if {"arr_0", "arr_2"} <= set(self.names):
            raise DataError(
                f"{path}: {len(self.names)} arrays without names; two are taken as x and y: save "
                "others by name: np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
            )
        memory.require(COPIES * sum(sizes.values()), str(path))

    def pair(self, part: str) -> _Piece | None:
        """Inputs and labels of a part, None where there are none."""
        words = PARTS[part]
        x = self._name(INPUTS, words)
        y = self._name((self.label.lower(),) if self.label else LABELS, words)
        if x is None or y is None:
            if part == "train" or (x is None and y is None):
                return None
            raise DataError(f"{self.path}: part {part!r} has {x or y!r}, but not both x and y")
        groups = self._name((self.group.lower(),), words) if self.group else None
        return _Piece(
            f"{self.path}: {x}",
            self.array(x),
            self.array(y),
            (x, y),
            None if groups is None else self.array(groups),
        )

    def array(self, name: str) -> Array:
        """The array `name`."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found: Array = file[self.names[name]]
        except ValueError as error:
            told = "holds Python objects, which can run code and are not loaded; save numbers"
            reason = told if "allow_pickle" in str(error) else str(error)
            raise DataError(f"{self.path}: array {name!r} {reason}") from error
        except DAMAGED as error:
            raise DataError(f"{self.path}: array {name!r} is damaged ({error})") from error
        return found

    def texts(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """An array of names, empty where there is none."""
        name = next((name for name in names if name in self.names), None)
        return () if name is None else tuple(str(text) for text in self.array(name).tolist())

    def nothing(self) -> DataError:
        """What to say when the inputs or labels are not found."""
        label = f" (labels {self.label!r})" if self.label else ""
        return DataError(
            f"{self.path} holds {quote(list(self.names.values()))}; expected x and y{label}, "
            "images and labels, or x_train, y_train, x_test and y_test"
        )

    def _name(self, roots: tuple[str, ...], words: tuple[str, ...]) -> str | None:
        tried = [n for r in roots for w in words for n in ((f"{r}_{w}", f"{w}_{r}") if w else (r,))]
        return next((name for name in tried if name in self.names), None)


def _part(pieces: list[_Piece], found: _Arrays, source: Source) -> RawPart:
    where = spans([(piece.where, len(piece.y)) for piece in pieces])
    labels = np.concatenate([piece.y for piece in pieces])
    if labels.dtype.kind not in "iufbUS":
        raise DataError(
            f"{pieces[0].where}: labels of type {labels.dtype}; expected integers or texts"
        )
    labels = labels.astype(str) if labels.dtype.kind == "S" else labels
    for piece in pieces:
        if piece.x.dtype.kind not in "iufb":
            raise DataError(f"{piece.where}: values of type {piece.x.dtype}; expected numbers")
    groups = [piece.groups for piece in pieces if piece.groups is not None]
    group = np.concatenate(groups) if len(groups) == len(pieces) else None
    if pieces[0].x.ndim == 2:
        return RawPart(labels, where, columns=_columns(pieces, found, source), groups=group)
    if group is None and source.group:
        raise DataError(f"{pieces[0].where}: no array {source.group!r}, which --group names")
    if source.categorical or source.ignore:
        raise DataError(f"{pieces[0].where}: images; --categorical and --ignore are for tables")
    images = [_images(piece) for piece in pieces]
    if len({(x.shape[1:], x.dtype) for x in images}) > 1:
        raise DataError(
            f"{pieces[1].where}: images of another shape or type than {pieces[0].where}"
        )
    pixels = images[0] if len(images) == 1 else np.concatenate(images)
    return RawPart(labels, where, pixels=pixels, groups=group)


def _columns(pieces: list[_Piece], found: _Arrays, source: Source) -> tuple[RawColumn, ...]:
    width = pieces[0].x.shape[1]
    names = found.texts(COLUMN_NAMES) or tuple(f"x{index}" for index in range(width))
    for piece in pieces:
        if piece.x.shape[1] != len(names):
            raise DataError(f"{piece.where}: {piece.x.shape[1]} columns; expected {len(names)}")
    if len(set(names)) < len(names):
        raise DataError(f"{found.path}: two columns have the same name; found {quote(names)}")
    tables.check_names(names, source, str(found.path))
    x = np.concatenate([piece.x for piece in pieces])
    where = spans([(piece.where, len(piece.y)) for piece in pieces])
    return tuple(
        tables.from_numbers(
            name, x[:, index], name in source.categorical, where, words=source.missing
        )
        for index, name in enumerate(names)
        if name not in source.ignore
    )


def _images(piece: _Piece) -> Array:
    """As `(N, C, H, W)` in uint8 or float32, which may be reordered."""
    x = piece.x
    if x.ndim == 3:
        x = x[:, None]
    elif _channels_last(piece):
        x = x.transpose(0, 3, 1, 2)
    if x.dtype.kind in "iub" and x.size and x.min() >= 0 and x.max() <= 255:
        return np.ascontiguousarray(x, dtype=np.uint8)
    made = np.ascontiguousarray(x, dtype=np.float32)
    finite = np.isfinite(made.reshape(len(made), -1).min(axis=1)) if made.size else np.ones(0, bool)
    finite &= np.isfinite(made.reshape(len(made), -1).max(axis=1)) if made.size else finite
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"{piece.where}, row {row + 1}: a pixel is NaN or infinite")
    return made


def _channels_last(piece: _Piece) -> bool:
    """Whether the last axis of `(N, a, b, c)` is the channels: the one that is smallest by far."""
    _, first, middle, last = piece.x.shape
    if first <= MOST_CHANNELS and first < min(middle, last):
        return False
    if last <= MOST_CHANNELS and last < min(first, middle):
        return True
    raise DataError(
        f"{piece.where}: shape {list(piece.x.shape)} does not tell the axis of the channels; "
        f"expected [N, C, H, W] or [N, H, W, C] with C up to {MOST_CHANNELS}, less than H and W"
    )
