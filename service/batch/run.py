"""A batch from its beginning to its end: the job, its parts, the output, the report."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.base.errors import DataError, HoldfastError
from models.base.files import sha256_file
from models.data.faults import Faults
from models.data.pieces import Piece, files_in, open_pieces
from models.data.records import Format
from models.versions.bundle import MANIFEST, Bundle
from service.batch.facts import (
    FORMAT,
    Failure,
    InputFile,
    Job,
    Options,
    PartFacts,
    add_parts,
)
from service.batch.report import BatchReport, report_of
from service.batch.scoring import Scorer
from service.batch.verdict import judge
from service.batch.work import Work, key_of
from service.configuration.program import program_version

Progress = Callable[[str, int, int, str], None]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Outcome = PartFacts | Failure
# Scores the pieces that are not done yet: (job, keys that are done, progress) to outcomes by key.
Engine = Callable[[Job, frozenset[str], Progress], Iterator[tuple[str, Outcome]]]


class ChangedError(DataError):
    """What an earlier run has begun cannot be finished: something is not what it was."""


def begin(data: str, form: Format, bundle: Bundle, options: Options, progress: Progress) -> Job:
    """Say what is scored with what; reads the files once for their sha256.

    Raises:
        DataError: nothing is there, or a format that is not read in pieces.
    """
    root = Path(data).expanduser().absolute()
    found, paths = files_in(root, form)
    sizes = [path.stat().st_size for path in paths]
    files, read = [], 0
    for path, size in zip(paths, sizes, strict=True):
        progress("reading", read, sum(sizes), path.name)
        files.append(InputFile(str(path), size, sha256_file(path)))
        read += size
    progress("reading", read, sum(sizes), "")
    manifest = bundle.manifest
    digest = sha256_file(bundle.path / MANIFEST)
    return Job(
        FORMAT, program_version(), manifest.model, manifest.version, digest, str(root), found,
        tuple(files), options,
    )  # fmt: skip


def score_batch(
    job: Job,
    bundle: Bundle,
    out: Path,
    *,
    requests_per_alarm: float,
    progress: Progress,
    engine: Engine | None = None,
    overwrite: bool = False,
    anew: bool = False,
) -> BatchReport:
    """Score a batch, or go on where a run before has ended; the bytes of the output are the same.

    The work folder stays until `finish`: whoever is killed before the report has been said says it
    in the next run.

    Args:
        job: what is scored with what.
        bundle: the version of the job.
        out: the output; its work folder lies beside it until all is done.
        requests_per_alarm: c of the watcher.
        progress: told of every piece: (stage, done, total, words).
        engine: scores the pieces; None: this process, one after the other.
        overwrite: replace what lies at `out`.
        anew: drop what a run before has begun.

    Raises:
        ChangedError: a run before was of another job; says what has changed.
        DataError: `out` is taken, another process works at it, or no piece could be read.
        OSError: it cannot be written; what is done stays.
    """
    work = Work(out)
    if out.resolve() in {Path(file.path).resolve() for file in job.files}:
        raise DataError(f"{out} is what shall be scored: name another output")
    if out.exists() and not overwrite and not work.has_output():
        raise DataError(f"{out} is there already: --overwrite replaces it")
    with work.hold():
        before = None if anew else work.job()
        if before is None:
            work.clear()
            work.begin(job)
        elif before != job:
            raise ChangedError(_changes(before, job, work.folder))
        try:
            outcomes = _score_pieces(job, work, engine or local(bundle, work), progress)
            _write(job, work, outcomes, progress)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise DataError(
                f"{out.parent}: {os.strerror(error.errno)}; what is scored so far stays: make "
                "space there, and the same command goes on"
            ) from error
        totals = add_parts(outcomes.facts[key] for key in sorted(outcomes.facts))
        progress("judging drift", 0, 0, "")
        counts = np.array(totals.counts, dtype=np.int64)
        drift = judge(bundle, counts, requests_per_alarm)
    return report_of(
        job, bundle.manifest, totals, drift, str(out), len(outcomes.facts) + len(outcomes.failures),
        len(outcomes.resumed), tuple(outcomes.failures.values()),
    )  # fmt: skip


def finish(out: Path) -> None:
    """Remove what lies beside an output: it is there, and its report has been said."""
    Work(out).remove()


@dataclass
class _Outcomes:
    """What became of the pieces, by key: facts, failures, and which an earlier run had done."""

    facts: dict[str, PartFacts]
    resumed: frozenset[str]
    failures: dict[str, Failure] = field(default_factory=dict)


def _write(job: Job, work: Work, outcomes: _Outcomes, progress: Progress) -> None:
    """Put the output together from the parts that are done."""
    if not any(each.rows for each in outcomes.facts.values()):
        work.remove()
        faults = Faults(job.data)
        faults.add(*(f"{each.piece}: {each.why}" for each in outcomes.failures.values()))
        if not faults:
            faults.add(f"{job.data}: there are no rows")
        faults.check()
    _check_unchanged(job)
    if outcomes.facts.keys() - outcomes.resumed:
        work.forget_output()
    if not work.name_output():
        told = progress_of(progress, "writing")
        work.assemble(sorted(outcomes.facts), job, told)


def progress_of(progress: Progress, stage: str) -> Callable[[int, int], None]:
    """Of one stage: (done, total)."""
    return lambda done, total: progress(stage, done, total, "")


def _score_pieces(job: Job, work: Work, engine: Engine, progress: Progress) -> _Outcomes:
    done = {}
    for path in sorted(work.folder.glob("*-*.json")):
        facts = work.facts(path.stem)
        if facts is not None:
            done[path.stem] = facts
    outcomes = _Outcomes(done, frozenset(done))
    for key, outcome in engine(job, frozenset(done), progress):
        if isinstance(outcome, PartFacts):
            outcomes.facts[key] = outcome
        else:
            outcomes.failures[key] = outcome
    return outcomes


def pieces_of(job: Job, scorer: Scorer) -> Iterator[tuple[str, InputFile, Piece]]:
    """Every piece of a job with its key, in their order."""
    wanted = scorer.wanted(root_of(job))
    for number, file in enumerate(job.files):
        check_file(file)
        for piece in open_pieces(Path(file.path), job.form, wanted):  # type: ignore[arg-type]
            yield key_of(number, piece.place), file, piece


def root_of(job: Job) -> str:
    """The folder below which the files lie."""
    return job.data if Path(job.data).is_dir() else str(Path(job.data).parent)


def check_file(file: InputFile) -> None:
    """Refuse a file that is not as long as it was; its content is compared at the end."""
    try:
        size = Path(file.path).stat().st_size
    except FileNotFoundError:
        raise ChangedError(f"{file.path}: is gone since the job began") from None
    if size != file.size:
        raise ChangedError(f"{file.path}: has changed since the job began")


def name_in(job: Job, file: InputFile) -> str:
    """What the output calls a file: its path below what was named."""
    root, path = Path(job.data), Path(file.path)
    return path.name if path == root else str(path.relative_to(root))


def score_piece(
    job: Job, work: Work, scorer: Scorer, key: str, file: InputFile, piece: Piece
) -> Outcome:
    """Score one piece, or say why it cannot be."""
    try:
        return work.make_part(key, piece, scorer, name_in(job, file))
    except ChangedError:
        raise
    except HoldfastError as error:
        why = str(error).removeprefix(f"{piece.name}: ")
        return Failure(piece.name, why)


def local(bundle: Bundle, work: Work) -> Engine:
    """The engine that is this process alone."""

    def run(job: Job, done: frozenset[str], progress: Progress) -> Iterator[tuple[str, Outcome]]:
        scorer, rows = Scorer(bundle, job.options), 0
        total = 0 if job.form == "csv" else sum(1 for _ in pieces_of(job, scorer))
        for place, (key, file, piece) in enumerate(pieces_of(job, scorer)):
            if key in done:
                continue
            outcome = score_piece(job, work, scorer, key, file, piece)
            yield key, outcome
            rows += outcome.rows if isinstance(outcome, PartFacts) else 0
            progress("scoring", place + 1, total, f"{rows:,} rows")

    return run


def _check_unchanged(job: Job) -> None:
    """Refuse an input file that was changed while it was scored."""
    for file in job.files:
        check_file(file)
        if sha256_file(Path(file.path)) != file.sha256:
            raise ChangedError(f"{file.path}: was changed while it was scored; --anew begins anew")


def _changes(before: Job, now: Job, folder: Path) -> str:
    """Say by name what is not as it was when the job began."""
    found = []
    if (before.model, before.version) != (now.model, now.version):
        found.append(
            f"it was begun with {before.model} version {before.version}, and this is {now.model} "
            f"version {now.version} (--version {before.version} goes on)"
        )
    elif before.manifest != now.manifest:
        found.append(f"version {now.version} of {now.model} is another one now")
    if before.program != now.program:
        found.append(f"Holdfast was {before.program}, and is {now.program}")
    old, new = ({file.path: file for file in job.files} for job in (before, now))
    found += [f"{path} is gone" for path in old if path not in new]
    found += [f"{path} is new" for path in new if path not in old]
    found += [f"{path} has changed" for path in new if path in old and new[path] != old[path]]
    if before.options != now.options:
        differing = [
            name
            for name in Options.__struct_fields__
            if getattr(before.options, name) != getattr(now.options, name)
        ]
        found.append(f"other options: {', '.join(differing)}")
    if before.form != now.form:
        found.append(f"the format was {before.form}, and is {now.form}")
    return (
        f"{folder} holds an unfinished run, and cannot be gone on with: {'; '.join(found)}. "
        "--anew begins anew"
    )
