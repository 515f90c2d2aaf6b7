"""The user's own benign examples: what their customers send that must not be called an attack."""

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np

from models.base.errors import DataError, InputError
from models.data import Source, hash_shares, read, resolve, tables
from models.data.raw import RawColumn, RawPart
from models.data.records import bytes_of
from models.versions.facts import BenignFacts
from models.versions.schema import DTYPES, InputArray, InputSchema

FEWEST = 20


@dataclass(frozen=True)
class Benign:
    """Raw rows `(N, *shape)` without labels, and where they came from."""

    x: InputArray
    source: Source

    @property
    def fingerprint(self) -> str:
        """sha256 over the rows."""
        return hashlib.sha256(bytes_of(self.x)).hexdigest()

    @property
    def facts(self) -> BenignFacts:
        """What the manifest keeps, and `again` reads."""
        return BenignFacts(msgspec.to_builtins(self.source), self.fingerprint, len(self.x))

    def halves(self) -> tuple[InputArray, InputArray]:
        """Rows to fit on and rows to calibrate on, dealt by content and occurrence number."""
        fit = hash_shares(self.x) < 0.5
        return self.x[fit], self.x[~fit]


def load_benign(source: Source, schema: InputSchema) -> Benign:
    """Read a data set as benign examples for a model that takes `schema`; labels do not count.

    Raises:
        DataError: it cannot be read, or its rows are no input of the model.
    """
    source = resolve(source)
    if source.format == "bundled":
        raise DataError(f"--benign {source.path}: a bundled set is training data; give a path")
    raw = read(source)
    parts = [part for part in (raw.train, raw.test) if part is not None]
    x = np.concatenate([_rows(part, schema, raw.what) for part in parts])
    if len(x) < FEWEST:
        raise DataError(f"--benign {raw.what}: {len(x)} rows; at least {FEWEST} are needed")
    try:
        schema.check(x, field=f"--benign {raw.what}")
    except InputError as error:
        raise DataError(str(error)) from None
    return Benign(x, source)


def again(facts: BenignFacts | None, schema: InputSchema) -> Benign | None:
    """The benign examples that a version was made with (its manifest's `training.benign`), or None.

    Raises:
        DataError: they are gone or not what they were.
    """
    if facts is None:
        return None
    benign = load_benign(msgspec.convert(facts.source, Source), schema)
    if benign.fingerprint != facts.fingerprint:
        raise DataError(
            f"the benign examples {benign.source.path!r} changed since the version was made with "
            "them: restore them, or train a new version with them"
        )
    return benign


def _rows(part: RawPart, schema: InputSchema, what: str) -> InputArray:
    told = f"--benign {what}"
    if (part.pixels is None) != (schema.kind == "tabular"):
        kind = "a table" if part.pixels is None else "images"
        raise DataError(f"{told} holds {kind}, but the model takes {schema.kind} input")
    if part.pixels is None:
        nothing = np.zeros(0, dtype=np.float32)
        like = [
            RawColumn(
                c.name, nothing, c.categories if c.kind == "categorical" else None, c.notation
            )
            for c in schema.columns
        ]
        return tables.matrix(tables.align_columns(part.columns, like, told), schema)
    found, wanted = part.pixels, (list(schema.shape), DTYPES[schema.dtype])
    if (list(found.shape[1:]), found.dtype) != wanted:
        raise DataError(
            f"{told} holds images {list(found.shape[1:])} of {found.dtype}; the model takes "
            f"{wanted[0]} of {wanted[1]}: bring them to that size and type"
        )
    return found
