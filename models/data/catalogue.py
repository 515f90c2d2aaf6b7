"""The formats of the user's own data, one record each: read by `load`, `found` and the options.

A new format is its reader, its record here, and its name in `models.data.records.Format`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.data.records import Format

ANY = frozenset({"label", "test", "drop_rare"})
COLUMNS = frozenset({"categorical", "ignore", "group", "missing", "decimal"})
PICTURES = frozenset({"resize", "range"})


@dataclass(frozen=True)
class FormatRecord:
    """One format.

    Args:
        name: of the option `--format`.
        reader: the module of `models.data.formats` whose `read(source)` gives `Raw`;
            imported when it is needed, because some need packages that a serving image does not
            have.
        options: of `Source` that mean something to it.
        suffixes: of file names that are of this format, whatever is inside.
    """

    name: Format
    reader: str
    options: frozenset[str]
    suffixes: tuple[str, ...] = ()


_ALL = (
    FormatRecord("npz", "arrays", ANY | COLUMNS | PICTURES, (".npz",)),
    FormatRecord("idx", "idx", ANY | PICTURES),
    FormatRecord("folder", "folder", PICTURES | {"test", "drop_rare"}),
    FormatRecord("parquet", "parquet", ANY | COLUMNS | PICTURES, (".parquet", ".pq")),
    FormatRecord(
        "csv",
        "delimited",
        ANY | COLUMNS | {"delimiter"},
        (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    ),
)
CATALOGUE: Mapping[Format, FormatRecord] = MappingProxyType({each.name: each for each in _ALL})


def formats_with(option: str) -> tuple[Format, ...]:
    """The formats that an option is for.

    >>> formats_with("delimiter")
    ('csv',)
    """
    return tuple(each.name for each in _ALL if option in each.options)
