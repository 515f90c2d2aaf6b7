"""Batches on Ray: every piece is a row of Ray Data, scored by whichever worker is free.

The driver and all workers see the registry, the data and the folder of the output at the same
paths (a shared volume), and run the same Holdfast. A worker writes the part of its piece as one
process does: whole or not at all, under a name that follows from the piece. So a piece that is
scored twice, because a worker died, is one part, and every row comes once.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import msgspec

from models.base.errors import BundleError, DataError, HoldfastError
from models.base.files import sha256_file
from models.data.pieces import open_pieces
from models.versions.bundle import MANIFEST
from models.versions.registry import Registry
from models.versions.signature import Keys
from service.batch.facts import Failure, Job, PartFacts
from service.batch.run import (
    Engine,
    Outcome,
    Progress,
    check_file,
    pieces_of,
    root_of,
    score_piece,
)
from service.batch.scoring import Scorer
from service.batch.work import Work, key_of

NEEDS = "--ray needs the ray extra: pip install 'holdfast[train,ray]'"
# Ray reports to its makers who uses it, unless it is told not to, before it starts.
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_USAGE_STATS_PROMPT_ENABLED": "0"}


class _Order(msgspec.Struct, frozen=True):
    """All that a worker needs to know."""

    job: Job
    registry: str
    keys: Keys
    out: str


class PieceScorer:
    """Scores pieces in a worker of Ray, with a model that it loads once."""

    def __init__(self, order: bytes) -> None:
        told = msgspec.msgpack.decode(order, type=_Order)
        self._job, self._work = told.job, Work(Path(told.out))
        bundle = Registry(Path(told.registry), told.keys).open(
            told.job.model, str(told.job.version)
        )
        if sha256_file(bundle.path / MANIFEST) != told.job.manifest:
            raise BundleError(bundle.path, "is another version here than where the job began")
        self._scorer = Scorer(bundle, told.job.options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score the piece of a row; its outcome as JSON."""
        number, place = int(row["number"]), int(row["place"])
        file = self._job.files[number]
        outcome: Outcome
        try:
            check_file(file)
            wanted = self._scorer.wanted(root_of(self._job))
            pieces = open_pieces(Path(file.path), self._job.form, wanted)  # type: ignore[arg-type]
            piece = next((each for each in pieces if each.place == place), None)
            if piece is None:
                raise DataError("is not there any more")
            key = key_of(number, place)
            outcome = score_piece(self._job, self._work, self._scorer, key, file, piece)
        except HoldfastError as error:
            outcome = Failure(f"{file.path}, piece {place}", str(error))
        except OSError as error:  # a full disk is no fault of the piece
            return {"key": "", "done": False, "outcome": str(error), "errno": error.errno or 0}
        return {
            "key": key_of(number, place),
            "done": isinstance(outcome, PartFacts),
            "outcome": msgspec.json.encode(outcome).decode(),
            "errno": 0,
        }


def on_ray(address: str, registry: Path, keys: Keys, out: Path) -> Engine:
    """Return the engine that is a Ray cluster.

    Args:
        address: of its head, `host:port`; or `auto`.
        registry: folder of the registry, the same for all workers.
        keys: of signatures.
        out: path of the output, the same for all workers.

    Raises:
        DataError: the ray extra is not installed; when the engine runs: no cluster answers, or the
            format can only be read from its beginning.
    """
    os.environ.update(SILENT)
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise DataError(f"{NEEDS} ({error.name} is missing)") from error

    def run(job: Job, done: frozenset[str], progress: Progress) -> Iterator[tuple[str, Outcome]]:
        if job.form != "parquet":
            raise DataError(
                f"--ray is for Parquet, whose row groups any worker can read; {job.data} is "
                f"{job.form}: score it without --ray, or write it as Parquet"
            )
        order = _Order(job, str(registry.absolute()), keys, str(out))
        rows = _rows(job, done, keys, registry)
        if not rows:
            return
        with redirect_stdout(sys.stderr):  # Ray tells of its workers where the report is wanted
            _join(ray, address)
            try:
                yield from _outcomes(ray, rows, msgspec.msgpack.encode(order), progress)
            except ray.exceptions.RayError as error:
                why = str(error).strip().rpartition("\n")[2]
                raise DataError(
                    f"Ray could not go on ({why}); what is scored so far stays: the same command "
                    "goes on"
                ) from error
            finally:
                ray.shutdown()

    return run


def _rows(job: Job, done: frozenset[str], keys: Keys, registry: Path) -> list[dict[str, int | str]]:
    """What is not done yet, a row a piece."""
    bundle = Registry(registry, keys).open(job.model, str(job.version))
    scorer = Scorer(bundle, job.options)
    numbers = {file.path: number for number, file in enumerate(job.files)}
    return [
        {"number": numbers[file.path], "place": piece.place}
        for key, file, piece in pieces_of(job, scorer)
        if key not in done
    ]


def _join(ray: Any, address: str) -> None:
    """Become the driver of a cluster. Raises DataError where none answers."""
    try:
        ray.init(
            address=address, log_to_driver=False, configure_logging=False,
            runtime_env={"env_vars": {**SILENT, "OMP_NUM_THREADS": "1"}},
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"no Ray cluster answers at {address!r}: {why}") from error


def _outcomes(
    ray: Any, rows: list[dict[str, int | str]], order: bytes, progress: Progress
) -> Iterator[tuple[str, Outcome]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    most = max(1, int(ray.cluster_resources().get("CPU", 1)))
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        PieceScorer,
        fn_constructor_kwargs={"order": order},
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, len(rows))),
    )
    began, count = time.monotonic(), 0
    for done, row in enumerate(data.iter_rows(), 1):
        if not row["key"]:
            raise OSError(row["errno"], row["outcome"])
        kind: Any = PartFacts if row["done"] else Failure
        outcome: Outcome = msgspec.json.decode(row["outcome"], type=kind)
        count += outcome.rows if isinstance(outcome, PartFacts) else 0
        yield row["key"], outcome
        rate = count / max(time.monotonic() - began, 1e-9)
        progress("scoring", done, len(rows), f"{count:,} rows, {rate:,.0f} a second")
