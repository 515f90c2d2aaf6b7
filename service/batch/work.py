"""The work folder of a job: parts that are done, each a file and its facts; nothing half.

    scored.parquet.parts/
      lock, job.json
      00000-000003.parquet   rows of a piece, written under another name and renamed when whole
      00000-000003.json      its facts with the sha256 of that file, written after it
      done.json              sha256 of the whole output, written before it gets its name

So a job that is killed at any moment loses the piece that it was at, and nothing else.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from models.base.errors import DataError
from models.base.files import fsync_dir, sha256_file, write_atomic
from models.base.locks import try_exclusive
from models.data.pieces import Piece
from service.batch.facts import FORMAT, InputFile, Job, PartFacts, RowFault
from service.batch.scoring import Scorer, Sums

COMPRESSION = "zstd"


class Done(msgspec.Struct, frozen=True):
    """The whole output, when it has been written."""

    sha256: str


class Work:
    """The work folder of one output."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.parts")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only one that works in the folder.

        Raises:
            DataError: another process does.
        """
        shutil.rmtree(self._gone, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = try_exclusive(self.folder / "lock")
        if lock is None:
            raise DataError(f"{self.folder}: another process works there; wait until it has ended")
        with lock:
            yield

    def job(self) -> Job | None:
        """The job that was begun here; None where there is none.

        Raises:
            DataError: it is of another format, or damaged.
        """
        try:
            encoded = (self.folder / "job.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            job = msgspec.json.decode(encoded, type=Job)
        except msgspec.DecodeError as error:
            raise DataError(
                f"{self.folder}: job.json cannot be read ({error}); --anew begins anew"
            ) from error
        if job.format != FORMAT:
            raise DataError(f"{self.folder}: of another program version; --anew begins anew")
        return job

    def begin(self, job: Job) -> None:
        """Note the job."""
        write_atomic(self.folder / "job.json", msgspec.json.encode(job))

    def clear(self) -> None:
        """Remove what an earlier job has left, but not the lock."""
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Remove the folder: nothing in it is needed any more. At once, whatever happens then."""
        self.folder.rename(self._gone)
        shutil.rmtree(self._gone)

    @property
    def _gone(self) -> Path:
        """What the folder is called while it is removed."""
        return self.folder.with_name(f".{self.folder.name}.gone")

    def facts(self, key: str) -> PartFacts | None:
        """The facts of a part that is done and whole; None where it must be made."""
        try:
            told = msgspec.json.decode((self.folder / f"{key}.json").read_bytes(), type=PartFacts)
            if self.path(key).stat().st_size != told.size:
                return None
            return told if sha256_file(self.path(key)) == told.sha256 else None
        except (OSError, msgspec.DecodeError):
            return None

    def path(self, key: str) -> Path:
        """The file of a part."""
        return self.folder / f"{key}.parquet"

    def make_part(self, key: str, piece: Piece, scorer: Scorer, file: str) -> PartFacts:
        """Score a piece and keep it, whole or not at all.

        Raises:
            DataError: the piece cannot be read, or is nothing that the model takes.
            OSError: it cannot be written.
        """
        temporary = self.folder / f".{key}.{uuid.uuid4().hex}"
        sums, writer = scorer.sums(), None
        try:
            with temporary.open("wb") as stream:
                for block in piece.blocks():
                    if writer is None:
                        writer = _writer(stream, scorer.schema(block))
                    if len(block.numbers) or block.broken:
                        writer.write_table(scorer.score(block, file, writer.schema, sums))
                if writer is not None:
                    writer.close()
                    writer = None
                stream.flush()
                os.fsync(stream.fileno())
            digest, size = sha256_file(temporary), temporary.stat().st_size
            temporary.replace(self.path(key))
        finally:
            if writer is not None:
                with suppress(Exception):  # it was never whole
                    writer.close()
            temporary.unlink(missing_ok=True)
        facts = _facts(piece, sums, size, digest)
        write_atomic(self.folder / f"{key}.json", msgspec.json.encode(facts))
        return facts

    def assemble(self, keys: list[str], job: Job, progress: Any) -> None:
        """Write the output from its parts, and give it its name when it is whole."""
        whole = self.folder / "whole"
        schemas = [pq.read_schema(self.path(key)) for key in keys if self.path(key).stat().st_size]
        told = msgspec.structs.replace(job, data="", files=tuple(map(_nameless, job.files)))
        metadata = {b"holdfast": msgspec.json.encode(told)}
        schema = pa.unify_schemas(schemas, promote_options="permissive").with_metadata(metadata)
        with whole.open("wb") as stream:
            writer = _writer(stream, schema)
            for done, key in enumerate(keys):
                progress(done, len(keys))
                if not self.path(key).stat().st_size:
                    continue
                with pq.ParquetFile(self.path(key)) as part:
                    for group in range(part.num_row_groups):
                        writer.write_table(
                            part.read_row_group(group, use_threads=False).cast(schema)
                        )
            writer.close()
            stream.flush()
            os.fsync(stream.fileno())
        progress(len(keys), len(keys))
        write_atomic(self.folder / "done.json", msgspec.json.encode(Done(sha256_file(whole))))
        self.name_output()

    def has_output(self) -> bool:
        """Whether the whole output of this job has its name already."""
        done, whole = self._done(), self.folder / "whole"
        if done is None or whole.exists() or not self.out.exists():
            return False
        return sha256_file(self.out) == done.sha256

    def name_output(self) -> bool:
        """Give a whole output its name, where that was not done; whether it has it now."""
        done, whole = self._done(), self.folder / "whole"
        if done is None or not whole.exists():
            return self.has_output()
        if sha256_file(whole) != done.sha256:
            return False
        whole.replace(self.out)
        fsync_dir(self.out.parent)
        return True

    def forget_output(self) -> None:
        """There are further parts: what was put together is not whole."""
        for name in ("done.json", "whole"):
            (self.folder / name).unlink(missing_ok=True)

    def _done(self) -> Done | None:
        try:
            return msgspec.json.decode((self.folder / "done.json").read_bytes(), type=Done)
        except (OSError, msgspec.DecodeError):
            return None


def key_of(file: int, place: int) -> str:
    """What the part of a piece is called: by its file and its place there."""
    return f"{file:05d}-{place:06d}"


def _nameless(file: InputFile) -> InputFile:
    """Without the folders above it: the output says nothing of the machine."""
    return msgspec.structs.replace(file, path=Path(file.path).name)


def _writer(stream: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(stream, schema, compression=COMPRESSION)


def _facts(piece: Piece, sums: Sums, size: int, digest: str) -> PartFacts:
    faults: list[RowFault] = list(sums.faults.values())
    return PartFacts(
        piece.name, sums.rows, sums.scored, size, digest, tuple(sums.counts.tolist()),
        tuple(sums.classes.tolist()), sums.flagged, tuple(faults), sums.labels,
        sums.unknown_labels,
    )  # fmt: skip
