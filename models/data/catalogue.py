"""The formats of the user's own data, one record each: read by `load`, `found`, options and docs.

A new format is its reader, its record here, and its name in `models.data.records.Format`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.data.records import Format

ANY = frozenset({"label", "test", "drop_rare"})
COLUMNS = frozenset({"categorical", "ignore", "group", "missing", "decimal"})
PICTURES = frozenset({"resize", "range"})
USUAL = "`label`, `target`, `class` or `y`, or `--label`"


@dataclass(frozen=True)
class FormatRecord:
    """One format.

    Args:
        name: of the option `--format`.
        reader: the module of `models.data.formats` whose `read(source)` gives `Raw`;
            imported when it is needed, because some need packages that a serving image does not
            have.
        options: of `Source` that mean something to it.
        looks: what it looks like, for docs/data.md.
        labels: where its labels stand, for docs/data.md.
        suffixes: of file names that are of this format, whatever is inside.
    """

    name: Format
    reader: str
    options: frozenset[str]
    looks: str
    labels: str
    suffixes: tuple[str, ...] = ()


_ALL = (
    FormatRecord(
        "npz",
        "arrays",
        ANY | COLUMNS | PICTURES,
        "arrays `x` and `y`, or `images` and `labels`, or `x_train`, `y_train`, `x_test`, `y_test` "
        "(`train_images`, ...); images `(N,H,W)`, `(N,C,H,W)`, `(N,H,W,C)`, or a table `(N,D)`; "
        "class names may stand in `classes`, names of columns in `columns`",
        "`y`, `labels`, `label`, `target(s)`, or `--label`; one a row, or one-hot `(N,C)`",
        (".npz",),
    ),
    FormatRecord(
        "idx",
        "idx",
        ANY | PICTURES,
        "MNIST's four files in a folder, or one file of images with its labels beside it; plain "
        "or gzip",
        "the file of labels",
    ),
    FormatRecord(
        "folder",
        "folder",
        PICTURES | {"test", "drop_rare"},
        "`class/name.png` (jpg, bmp, gif, webp, tiff, ppm), with `train/` and `test/` or `val/` "
        "above the classes or not",
        "the name of the folder",
    ),
    FormatRecord(
        "parquet",
        "parquet",
        ANY | COLUMNS | PICTURES,
        "a file, or a folder of them (folders `city=Rome/` are a column `city`); a column of "
        "encoded images (bytes, or a struct of bytes and path), or the columns of a table",
        USUAL,
        (".parquet", ".pq"),
    ),
    FormatRecord(
        "csv",
        "delimited",
        ANY | COLUMNS | {"delimiter"},
        "CSV or TSV with a header, in UTF-8, or in UTF-16 with a byte order mark; plain, `.gz`, or "
        "one file in a `.zip`; or a folder of them; `,` `;` tab and `|` are found",
        USUAL,
        (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zip", ".tsv.zip"),
    ),
    FormatRecord(
        "jsonl",
        "jsonlines",
        ANY | COLUMNS,
        "JSON lines: an object a line, whose keys are the columns; plain, `.gz`, or one file in a "
        "`.zip`; or a folder of them",
        USUAL,
        (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zip", ".ndjson.zip"),
    ),
)
CATALOGUE: Mapping[Format, FormatRecord] = MappingProxyType({each.name: each for each in _ALL})

# What is not read, by the end of its name, and what makes something of it that is.
_PANDAS = "pandas.{}(PATH).to_parquet('data.parquet', index=False) makes a table of it that is read"
_UNPACK = "unpack it first, and name the folder or file"
_CONVERSIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
        "a spreadsheet: save the sheet as CSV UTF-8, or " + _PANDAS.format("read_excel"),
    ),
    ((".sas7bdat", ".xpt"), "a SAS file: " + _PANDAS.format("read_sas")),
    ((".dta",), "a Stata file: " + _PANDAS.format("read_stata")),
    ((".sav", ".zsav", ".por"), "an SPSS file: " + _PANDAS.format("read_spss")),
    (
        (".h5", ".hdf5", ".hdf"),
        "an HDF5 file: " + _PANDAS.format("read_hdf") + "; arrays of h5py go into "
        "numpy.savez('data.npz', x=x, y=y)",
    ),
    (
        (".pkl", ".pickle", ".joblib", ".pt", ".pth"),
        "a pickle, which can run code when it is opened, and is never opened here; if you trust "
        "it: " + _PANDAS.format("read_pickle"),
    ),
    ((".feather", ".arrow", ".ipc"), "an Arrow file: " + _PANDAS.format("read_feather")),
    ((".orc",), "an ORC file: " + _PANDAS.format("read_orc")),
    (
        (".avro",),
        "an Avro file: fastavro reads it; write its rows as JSON lines (.jsonl)",
    ),
    (
        (".arff",),
        "a Weka file: pandas.DataFrame(scipy.io.arff.loadarff(PATH)[0]).to_csv('data.csv', "
        "index=False) makes a table of it that is read",
    ),
    (
        (".svmlight", ".libsvm", ".svm"),
        "a file of sparse rows: x, y = sklearn.datasets.load_svmlight_file(PATH), then "
        "numpy.savez('data.npz', x=x.toarray(), y=y)",
    ),
    (
        (".mat",),
        "a MATLAB file: scipy.io.loadmat(PATH) gives its arrays; write them with "
        "numpy.savez('data.npz', x=x, y=y)",
    ),
    ((".rds", ".rda", ".rdata"), "an R file: write.csv(data, 'data.csv', row.names=FALSE) in R"),
    ((".npy",), "one array: save it with its labels as .npz (x and y)"),
    (
        (".json", ".json.gz"),
        "one JSON value: write an object a line (jq -c '.[]' data.json > data.jsonl)",
    ),
    (
        (".db", ".sqlite", ".sqlite3"),
        "a database: sqlite3 -header -csv PATH 'SELECT ...' > data.csv",
    ),
    (
        (".tfrecord", ".tfrecords"),
        "a file of TensorFlow: write its arrays with numpy.savez('data.npz', x=x, y=y)",
    ),
    ((".xml", ".html", ".htm"), "a page: open it as a spreadsheet and save it as CSV UTF-8"),
    ((".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar"), "an archive: " + _UNPACK),
    ((".bz2", ".xz", ".zst", ".lz4", ".z"), "packed in a way that is not read: " + _UNPACK),
    (
        (".txt", ".dat", ".data", ".tab"),
        "text: if it is a CSV with a header, say --format csv (and --delimiter)",
    ),
)
CONVERSIONS: Mapping[str, str] = MappingProxyType(
    {suffix: sentence for suffixes, sentence in _CONVERSIONS for suffix in suffixes}
)


def formats_with(option: str) -> tuple[Format, ...]:
    """The formats that an option is for.

    >>> formats_with("delimiter")
    ('csv',)
    """
    return tuple(each.name for each in _ALL if option in each.options)


def conversion_of(name: str) -> str:
    """What a file of that name is and how to convert it; empty where the name does not say.

    >>> conversion_of("survey.dta").partition(":")[0]
    'a Stata file'
    """
    ends = [suffix for suffix in CONVERSIONS if name.lower().endswith(suffix)]
    return CONVERSIONS[max(ends, key=len)] if ends else ""
