"""What is known of a batch: the job, its parts, and what all of it adds up to."""

from collections.abc import Iterable

import msgspec

FORMAT = 1  # of the work folder; one of another format is refused
EXAMPLES = 3  # rows of a fault that are named, of each part
MOST_KINDS = 50  # of faults that a part tells apart


class InputFile(msgspec.Struct, frozen=True):
    """A file as it was when the job began: absolute path, bytes, sha256."""

    path: str
    size: int
    sha256: str


class Options(msgspec.Struct, frozen=True):
    """What was asked for of each row, beside its scores.

    Args:
        keep: columns of the file that stand in the output, too.
        probabilities: of all classes.
        label: column with the true class; empty: nobody says.
        delimiter: of a CSV; empty to find it.
        resize: of pictures of another size; empty refuses them.
        threads: of a run of the model.
    """

    keep: tuple[str, ...] = ()
    probabilities: bool = False
    label: str = ""
    delimiter: str = ""
    resize: str = ""
    threads: int = 1


class Job(msgspec.Struct, frozen=True):
    """What makes the bytes of the output: another job never goes on with these parts.

    Args:
        format: `FORMAT`.
        program: version of Holdfast.
        model, version: what scores.
        manifest: sha256 of the version's manifest, which holds those of its files.
        data: what was named.
        form: its format.
        files: of it, in their order.
        options: as they were given.
    """

    format: int
    program: str
    model: str
    version: int
    manifest: str
    data: str
    form: str
    files: tuple[InputFile, ...]
    options: Options


class RowFault(msgspec.Struct, frozen=True):
    """Rows with the same fault: its column and what was expected, how many, the first by number."""

    what: str
    rows: int
    examples: tuple[str, ...]


class LabelCount(msgspec.Struct, frozen=True):
    """Rows of a true class, and those that were answered right."""

    rows: int = 0
    right: int = 0


class PartFacts(msgspec.Struct, frozen=True):
    """A part that is done: what its file is, and what its rows add up to.

    Args:
        name: of the piece that it was made from.
        rows: in the part; `scored` of them have scores.
        size, sha256: of the part's file.
        counts: of `RowCounts`.
        classes: rows by answered class, (C,).
        flagged: rows by kind of flag.
        faults: of rows that have no scores.
        labels: by true class.
        unknown_labels: rows whose label is no class of the model.
    """

    name: str
    rows: int
    scored: int
    size: int
    sha256: str
    counts: tuple[int, ...]
    classes: tuple[int, ...]
    flagged: dict[str, int]
    faults: tuple[RowFault, ...]
    labels: dict[str, LabelCount] = {}
    unknown_labels: int = 0


class Failure(msgspec.Struct, frozen=True):
    """A piece that could not be read, and why."""

    piece: str
    why: str


class Totals(msgspec.Struct, frozen=True):
    """What the parts of a job add up to."""

    rows: int
    scored: int
    counts: tuple[int, ...]
    classes: tuple[int, ...]
    flagged: dict[str, int]
    faults: tuple[RowFault, ...]
    labels: dict[str, LabelCount]
    unknown_labels: int


def add_parts(parts: Iterable[PartFacts]) -> Totals:
    """Add up parts; their order changes only which rows are examples of a fault."""
    rows = scored = unknown = 0
    counts, classes = list[int](), list[int]()
    flagged, labels, faults = dict[str, int](), dict[str, LabelCount](), dict[str, RowFault]()
    for part in parts:
        rows, scored, unknown = (
            rows + part.rows,
            scored + part.scored,
            unknown + part.unknown_labels,
        )
        counts = _add(counts, part.counts)
        classes = _add(classes, part.classes)
        for kind, number in part.flagged.items():
            flagged[kind] = flagged.get(kind, 0) + number
        for name, count in part.labels.items():
            old = labels.get(name, LabelCount())
            labels[name] = LabelCount(old.rows + count.rows, old.right + count.right)
        for fault in part.faults:
            known = faults.get(fault.what)
            faults[fault.what] = fault if known is None else join_faults(known, fault)
    return Totals(
        rows, scored, tuple(counts), tuple(classes), flagged, tuple(faults.values()), labels,
        unknown,
    )  # fmt: skip


def join_faults(first: RowFault, more: RowFault) -> RowFault:
    """Two lists of rows with the same fault as one."""
    examples = (*first.examples, *more.examples)[:EXAMPLES]
    return RowFault(first.what, first.rows + more.rows, examples)


def _add(total: list[int], more: tuple[int, ...]) -> list[int]:
    return [a + b for a, b in zip(total, more, strict=True)] if total else list(more)
