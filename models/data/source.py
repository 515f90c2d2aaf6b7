"""The data that a version was made from, loaded again."""

import msgspec

from models import data
from models.base.errors import DataError
from models.data import DataSet, Source
from models.data.lineage import Lineage
from models.versions.bundle import Bundle
from models.versions.schema import Manifest


def source_of(manifest: Manifest) -> Source:
    """Where the data of a version came from.

    Raises:
        DataError: the manifest does not say.
    """
    name = f"{manifest.model}/{manifest.version}"
    if manifest.training is None:
        raise DataError(f"{name}: its manifest does not say which data it was made from")
    try:
        return msgspec.convert(manifest.training.data.source, Source)
    except msgspec.ValidationError as error:
        raise DataError(f"{name}: the source of its data is not understood: {error}") from error


def data_of(manifest: Manifest) -> DataSet:
    """The data set that a version was made from, split as it was then.

    Raises:
        DataError: it cannot be read, or is not what it was.
    """
    source = source_of(manifest)
    loaded = data.load(source)
    assert manifest.training is not None  # or `source_of` would have refused
    wanted = manifest.training.data.fingerprint
    if loaded.fingerprint != wanted:
        raise DataError(
            f"data {source.path!r} changed since {manifest.model}/{manifest.version} was made from "
            f"it (fingerprint {loaded.fingerprint[:12]}, expected {wanted[:12]}): figures on it "
            "would not be comparable; restore the data, or train a new version on it"
        )
    return loaded


def relabelled_data(bundle: Bundle) -> DataSet:
    """As `data_of`, with the labels that hold for the version, where they have changed since.

    Raises:
        DataError: as `data_of`.
        BundleError: what is kept of the changes is damaged.
    """
    return Lineage.of(bundle).relabelled(data_of(bundle.manifest))
