"""Units of work: what an evaluation does, one after the other, kept as it is done.

A unit computes arrays with one entry per row, block by block. A finished unit is a file, so that an
evaluation that was killed goes on where it was. Under `torchrun` block b is done by process
b mod world, and every process gets the whole. The random numbers of a block follow from the seed,
the unit's name and the block's number alone, so the figures are the same, to the last digit,
whether one process did the work or many, in one go or in several.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.base.files import write_atomic
from models.base.logs import logger
from models.data import Rows
from models.evaluation.gaps import Gaps, reason_of
from models.evaluation.subject import Arrays
from models.statistics.arrays import IntArray
from models.training import distributed

log = logger("evaluation")
BLOCK = 128
LONG = 200_000  # forward passes of a unit that is kept block by block
Progress = Callable[[int, int, str], None]
Results = dict[str, Arrays]


@dataclass(frozen=True)
class Block:
    """Some rows of a unit, their places among its rows, and a seed of their own."""

    rows: Rows
    index: IntArray
    seed: int


@dataclass(frozen=True)
class Unit:
    """One piece of an evaluation.

    Args:
        name: unique in the evaluation; letters, digits, `.`, `_` and `-`.
        rows: what it is about.
        compute: a block to arrays with one entry per row of the block.
        cost: forward passes per row, about: the share of progress that it makes up.
        label: what people call the measurement; the name where it is empty.
        needed: whether there is no evaluation without it.
    """

    name: str
    rows: Rows
    compute: Callable[[Block], Arrays]
    cost: int = 1
    label: str = ""
    needed: bool = False

    @property
    def passes(self) -> int:
        """Forward passes of the whole unit, about."""
        return self.cost * len(self.rows)

    @property
    def long(self) -> bool:
        """Whether a block is too dear to be lost with the rest."""
        return self.passes > LONG

    def blocks(self, seed: int) -> list[Block]:
        """The rows in blocks."""
        places = np.split(np.arange(len(self.rows)), range(BLOCK, len(self.rows), BLOCK))
        return [
            Block(self.rows.take(index), index, _seed(seed, self.name, number))
            for number, index in enumerate(places)
        ]


class UnitFailedError(Exception):
    """A unit failed in one of the processes; the message is the reason, for people."""


class Store:
    """Finished units in a folder (npz files, no pickle); keeps nothing without one."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self) -> Results:
        """All that is whole; what is not is as if it were absent."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        pieces: Results = {}
        for path in sorted(self._folder.glob("*.npz")):
            if path.name.startswith("."):  # a write that was cut off
                continue
            try:
                with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                    pieces[path.stem] = {key: archive[key] for key in archive.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):
                path.unlink(missing_ok=True)
        return pieces

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep a finished piece: whole or not at all."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        write_atomic(self._folder / f"{name}.npz", stream.getvalue())

    def drop(self, names: Iterable[str]) -> None:
        """Forget pieces that stand in a larger one now."""
        for name in names:
            if self._folder is not None:
                (self._folder / f"{name}.npz").unlink(missing_ok=True)


def run_units(
    units: Sequence[Unit],
    results: Results,
    *,
    seed: int = 0,
    store: Store | None = None,
    progress: Progress | None = None,
    gaps: Gaps | None = None,
) -> None:
    """Run `units` in order and put what they give into `results`, by name.

    A unit that fails, and is not needed, is noted in `gaps` and stops nothing; without `gaps` its
    error is raised.

    Args:
        units: a unit may use the results of those before it.
        results: filled in.
        seed: of all random numbers.
        store: where finished units are kept, and are looked for.
        progress: called with `(done, total, name)`, in forward passes, by process 0 alone.
        gaps: what could not be measured.
    """
    store = store or Store(None)
    known: Results = {}
    for pieces in distributed.gather(store.load()):  # all processes must skip the same units
        known.update(pieces)
    total, before = sum(unit.passes for unit in units), 0
    for unit in units:

        def tell(rows: int, unit: Unit = unit, before: int = before) -> None:
            if progress is not None and distributed.rank() == 0:
                done = before + unit.cost * min(rows, len(unit.rows))
                progress(done, total, unit.name)

        if unit.name in known:
            results[unit.name] = known[unit.name]
        else:
            try:
                results[unit.name] = _run(unit, known, store, seed, tell)
            except UnitFailedError as error:
                if gaps is None or unit.needed:
                    raise error.__cause__ or error from None
                gaps.add(unit.label or unit.name, str(error))
        before += unit.passes
        tell(len(unit.rows))


def _run(
    unit: Unit, known: Mapping[str, Arrays], store: Store, seed: int, tell: Callable[[int], None]
) -> Arrays:
    """A unit's arrays in the order of its rows, from the blocks of all processes.

    Raises:
        UnitFailedError: in all processes alike, where it failed in one.
    """
    rank, world = distributed.rank(), distributed.world()
    names = [f"{unit.name}.block{number}" for number in range(-(-len(unit.rows) // BLOCK))]
    parts = {name: known[name] for name in names if name in known}
    own: Results = {}
    failure: Exception | None = None
    for number, block in enumerate(unit.blocks(seed)):
        if names[number] in parts or number % world != rank:
            continue
        try:
            own[names[number]] = unit.compute(block)
        except Exception as error:  # the others wait in `gather`: they must learn of it
            log.debug("unit_failed", unit=unit.name, exc_info=True)
            failure = error
            break
        if unit.long and len(names) > 1:
            store.put(names[number], own[names[number]])
        tell(BLOCK * (len(parts) + world * len(own)))
    reason = "" if failure is None else reason_of(failure)
    if reasons := [words for words in distributed.gather(reason) if words]:
        raise UnitFailedError(reasons[0]) from failure
    for part in distributed.gather(own):
        parts.update(part)
    merged = {key: np.concatenate([parts[n][key] for n in names]) for key in parts[names[0]]}
    if rank == 0:
        store.put(unit.name, merged)
        if unit.long:
            store.drop(names)
    return merged


def _seed(seed: int, name: str, number: int) -> int:
    """A number for NumPy and torch, different for every block of every unit."""
    digest = hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
