"""What a path holds: its format, its training and test files, and a name for the data."""

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.base.errors import DataError
from models.data.catalogue import CATALOGUE
from models.data.raw import quote
from models.data.records import Format, Source
from models.versions.registry import MODEL_NAME

IMAGES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)
*_MOST, _LAST = CATALOGUE
KNOWN = f"{', '.join(_MOST)} or {_LAST}"
ROLES = {
    "train": {"train", "training"},
    "test": {"test", "testing", "t10k"},
    "validation": {"val", "valid", "validation", "eval", "dev"},
}
FILES: tuple[Format, ...] = ("parquet", "csv")  # of which a folder may hold several
IDX_TYPES = range(0x08, 0x0F)


@dataclass(frozen=True)
class Files:
    """Files of the training part and of the test part; `beside` if nobody named the latter."""

    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    beside: bool = False
    notes: tuple[str, ...] = ()


def format_of(path: Path) -> Format:
    """The format of what lies at `path`.

    Raises:
        DataError: nothing lies there, or it cannot be told.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise DataError(f"no such file or folder: {str(path)!r}")
    name = path.name.lower()
    for known, record in CATALOGUE.items():
        if name.endswith(record.suffixes):
            return known
    head = _head(path)
    if not head:
        raise DataError(f"{path}: the file is empty")
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in IDX_TYPES:
        return "idx"
    if head[:4] == b"PAR1":
        return "parquet"
    hint = "; put images in one folder per class" * (path.suffix.lower() in IMAGES)
    hint += "; save it with its labels as .npz (x and y)" * (name.endswith(".npy"))
    raise DataError(
        f"{path}: the format cannot be told from the name or the first bytes{hint}; "
        f"expected {KNOWN}: say which with --format"
    )


def _of_folder(path: Path) -> Format:
    entries = visible(path)
    folders = [entry for entry in entries if entry.is_dir()]
    below = [entry for folder in folders for entry in visible(folder)]
    deeper = [e for folder in below if folder.is_dir() for e in visible(folder)]
    if any(is_image(entry) for entry in (*below, *deeper)):
        return "folder"
    names = [entry.name.lower() for entry in (*entries, *below)]
    for known in FILES:
        if any(name.endswith(CATALOGUE[known].suffixes) for name in names):
            return known
    if any("images" in entry.name and _is_idx(entry) for entry in entries if entry.is_file()):
        return "idx"
    if any(is_image(entry) for entry in entries):
        raise DataError(
            f"{path}: images lie in the folder itself; expected a folder per class, "
            "such as cat/1.png and dog/2.png"
        )
    found = quote([entry.name for entry in entries], 5)
    raise DataError(
        f"{path}: the format cannot be told; found {found}; expected {KNOWN}: a folder per class "
        "with images in it, *.parquet, *.csv, or MNIST's files"
    )


def files_of(source: Source, suffixes: Sequence[str]) -> Files:
    """The files of the parts of `source`, by suffix and by `train`, `test`, `val` in their names.

    Beside files for training, others are left out; validation files test where there are no test
    files, and train otherwise.

    Raises:
        DataError: a path is not there, or no file to train from.
    """
    path, ends = Path(source.path), tuple(suffixes)
    named = _below(Path(source.test), ends) if source.test else ()
    if path.is_file():
        twin = path.with_name(_twin_name(path.name))
        beside = twin != path and twin.is_file() and not named
        return Files((path,), named or ((twin,) if beside else ()), beside)
    return by_role(path, _below(path, ends), lambda p: role_of(p.relative_to(path)), named)


def by_role(
    path: Path, files: Sequence[Path], role: Callable[[Path], str], test: tuple[Path, ...] = ()
) -> Files:
    """Sort files (or folders) below `path` into parts by their role; `test` was named already."""
    roles: dict[str, list[Path]] = {"train": [], "test": [], "validation": [], "": []}
    for file in files:
        roles[role(file)].append(file)
    train, other, notes = roles["train"], roles[""], []
    if not train:
        train = other
    elif other:
        notes.append(f"left out, for they are of no part: {', '.join(f.name for f in other[:5])}")
    found, validation = roles["test"], roles["validation"]
    if validation and (found or test):
        train, notes = train + validation, [*notes, "the validation part was added to training"]
    elif validation:
        found = validation
    if not train:
        raise DataError(f"{path}: found {quote([f.name for f in files], 5)}, but no training part")
    return Files(tuple(train), test or tuple(found), bool(found) and not test, tuple(notes))


def role_of(path: Path) -> str:
    """`train`, `test`, `validation` or nothing, by the words in a relative path."""
    for word in re.split(r"[^a-z0-9]+", str(path).lower()):
        for role, words in ROLES.items():
            if word in words:
                return role
    return ""


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without what systems hide there."""
    hidden = (".", "__")
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(hidden))


def is_image(path: Path) -> bool:
    """Whether the name says that it is an image."""
    return path.suffix.lower() in IMAGES


def name_of(source: Source) -> str:
    """A name for the data that the registry takes as a model's: given, or made from the path.

    Raises:
        DataError: the given name does not fit.
    """
    if source.name:
        if not MODEL_NAME.fullmatch(source.name):
            raise DataError(f"name {source.name!r}: use a-z, 0-9, '_' and '-', at most 63")
        return source.name
    path = Path(source.path)
    stem = path.name.lower()
    while path.suffix and (shorter := re.sub(r"\.(gz|npz|csv|tsv|parquet|pq)$", "", stem)) != stem:
        stem = shorter
    if path.is_file() and (role_of(Path(stem)) and path.parent.name):
        words = [w for w in re.split(r"[^a-z0-9]+", stem) if not role_of(Path(w))]
        common = {"images", "idx3", "ubyte", "data", "of"}
        kept = [word for word in words if word and word not in common and not word.isdigit()]
        stem = "-".join(kept) or path.parent.name.lower()
    slug = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:63]
    return slug or "data"


def _twin_name(name: str) -> str:
    """`test.csv` for `train.csv`; the name itself where it has no such word."""
    return re.sub(r"(?<![a-z])train(ing)?(?![a-z])", "test", name, count=1)


def _below(path: Path, ends: tuple[str, ...]) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise DataError(f"no such file or folder: {str(path)!r}")
    found = [p for p in sorted(path.rglob("*")) if p.name.lower().endswith(ends) and p.is_file()]
    kept = tuple(
        p for p in found if not any(w.startswith((".", "__")) for w in p.relative_to(path).parts)
    )
    if not kept:
        raise DataError(f"{path}: no file ends in {' or '.join(ends)}")
    return kept


def _head(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is gzip."""
    with path.open("rb") as stream:
        head = stream.read(4)
    if head[:2] != b"\x1f\x8b":
        return head
    try:
        with gzip.open(path) as unpacked:
            return unpacked.read(4)
    except (OSError, EOFError, zlib.error):  # whatever it is, it is no IDX
        return head


def _is_idx(path: Path) -> bool:
    head = _head(path)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in IDX_TYPES
