"""What a path holds: its format, its training and test files, and a name for the data."""

import gzip
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from models.base.errors import DataError
from models.data.catalogue import CATALOGUE, conversion_of
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
FILES: tuple[Format, ...] = ("parquet", "csv", "jsonl")  # of which a folder may hold several
IDX_TYPES = range(0x08, 0x0F)
SUFFIX = re.compile(r"\.(gz|zip|npz|csv|tsv|parquet|pq|jsonl|ndjson)$")
MOST_LOOKED_AT = 10_000  # files of a folder, to tell its format
# What systems put beside the files of their users, besides names that begin with a dot or `__`.
SYSTEM = frozenset(
    ("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@synoresource", "#recycle",
     "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "ehthumbs.db",
     "desktop.ini")
)  # fmt: skip
PARTITION = re.compile(r"([^=]+)=(.*)")  # a folder `city=Rome`, as Hive and Spark write them
TABLES = (".xlsx", ".xls", ".ods", ".feather", ".arrow", ".pkl", ".dta", ".sas7bdat", ".h5")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


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
    if head[:4] == b"PK\3\4" and (inside := _of_archive(path)):
        return inside
    if conversion := conversion_of(name):
        raise DataError(f"{path}: is not read: it is {conversion}")
    hint = "; put images in one folder per class" * (path.suffix.lower() in IMAGES)
    raise DataError(
        f"{path}: the format cannot be told from the name or the first bytes{hint}; "
        f"expected {KNOWN}: say which with --format"
    )


def _of_archive(path: Path) -> Format | None:
    """The format of the one file in a zip archive, None where there are several."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n.lower() for n in archive.namelist() if not is_hidden(Path(n))]
    except (zipfile.BadZipFile, OSError):
        return None
    for known in FILES[1:]:
        if len(names) == 1 and names[0].endswith(CATALOGUE[known].suffixes):
            return known
    return None


def _of_folder(path: Path) -> Format:
    entries = visible(path)
    _check_plain(path)
    files = [each for each, _ in zip(walk(path), range(MOST_LOOKED_AT), strict=False)]
    if any(is_image(file) and file.parent != path for file in files):
        return "folder"
    names = [file.name.lower() for file in files]
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
    hint = next((f"; {n} is {text}" for n in names if (text := conversion_of(n))), "")
    listed = quote([entry.name for entry in entries], 5)
    raise DataError(
        f"{path}: the format cannot be told; found {listed}; expected {KNOWN}: a folder per class "
        f"with images in it, *.parquet, *.csv, *.jsonl, or MNIST's files{hint}"
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
    files = by_role(path, _below(path, ends), lambda p: role_of(p.relative_to(path)), named)
    return replace(files, notes=(*files.notes, *_note_others(path, ends)))


def by_role(
    path: Path, files: Sequence[Path], role: Callable[[Path], str], test: tuple[Path, ...] = ()
) -> Files:
    """Sort files (or folders) below `path` into parts by their role; `test` was named already."""
    roles: dict[str, list[Path]] = {"train": [], "test": [], "validation": [], "": []}
    for file in files:
        roles[role(file)].append(file)
    train, other, notes = roles["train"], roles[""], list[str]()
    if not train:
        train = other
    elif other:
        notes.append(f"left out, for they are of no part: {', '.join(f.name for f in other[:5])}")
    own_test, validation = roles["test"], roles["validation"]
    if validation and (own_test or test):
        train, notes = train + validation, [*notes, "the validation part was added to training"]
    elif validation:
        own_test = validation
    if not train:
        raise DataError(f"{path}: found {quote([f.name for f in files], 5)}, but no training part")
    return Files(tuple(train), test or tuple(own_test), bool(own_test) and not test, tuple(notes))


def role_of(path: Path) -> str:
    """`train`, `test`, `validation` or nothing, by the words in a relative path."""
    for word in re.split(r"[^a-z0-9]+", str(path).lower()):
        for role, words in ROLES.items():
            if word in words:
                return role
    return ""


def is_hidden(path: Path) -> bool:
    """Whether a part of a relative path is what systems hide, or put there themselves."""
    return any(part.startswith((".", "__", "~$")) or part.lower() in SYSTEM for part in path.parts)


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without what systems put there."""
    return sorted(entry for entry in folder.iterdir() if not is_hidden(Path(entry.name)))


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted by path in each folder, without what systems put there."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(Path(name)))
        yield from (Path(root, name) for name in sorted(names) if not is_hidden(Path(name)))


def note_hidden(folder: Path) -> tuple[str, ...]:
    """A note that names what `walk` leaves out; none where that is nothing."""
    hidden: dict[str, int] = {}
    for _, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if is_hidden(Path(name)):
                hidden[name] = hidden.get(name, 0) + 1
        folders[:] = [name for name in folders if not is_hidden(Path(name))]
    if not hidden:
        return ()
    listed = quote(sorted(hidden), 5)
    return (f"left out, for systems put such files and folders there: {listed}",)


def partition_of(path: Path, root: Path) -> Mapping[str, str | None]:
    """The columns that the folders between `root` and a file hold: `city=Rome/a.parquet`.

    A folder that names a part of the data (`split=train`) is no column.
    """
    columns: dict[str, str | None] = {}
    for part in path.relative_to(root).parts[:-1] if root in path.parents else ():
        match = PARTITION.fullmatch(part)
        if match and not role_of(Path(part)):
            columns[match[1]] = None if match[2] == NO_VALUE else unquote(match[2])
    return columns


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
    while path.suffix and (shorter := SUFFIX.sub("", stem)) != stem:
        stem = shorter
    if path.is_file() and (role_of(Path(stem)) and path.parent.name):
        words = [w for w in re.split(r"[^a-z0-9]+", stem) if not role_of(Path(w))]
        common = {"images", "idx3", "ubyte", "data", "of"}
        own = [word for word in words if word and word not in common and not word.isdigit()]
        stem = "-".join(own) or path.parent.name.lower()
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
    _check_plain(path)
    files = tuple(file for file in walk(path) if file.name.lower().endswith(ends))
    if not files:
        raise DataError(f"{path}: no file ends in {' or '.join(ends)}")
    return files


def _check_plain(folder: Path) -> None:
    """Refuse a folder whose files are not all of the table that it holds. Raises DataError."""
    if (folder / "_delta_log").is_dir():
        raise DataError(
            f"{folder}: is a Delta table, in which files of rows that were deleted may lie, too: "
            "write what it holds now with deltalake.DeltaTable(PATH).to_pandas().to_parquet(...)"
        )


def _note_others(path: Path, ends: tuple[str, ...]) -> tuple[str, ...]:
    """A note on data files of other formats, which are not read."""
    known = tuple(suffix for record in CATALOGUE.values() for suffix in record.suffixes)
    names = [file.name for file in walk(path) if not file.name.lower().endswith(ends)]
    others = [n for n in names if n.lower().endswith(known) or n.lower().endswith(TABLES)]
    if not others:
        return ()
    return (f"left out, for they are of another format: {', '.join(others[:5])}",)


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
