"""How much a store keeps, of all models and of single ones, and which requests it takes at all."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from models.base.errors import InputError

Kind = Literal["all", "share", "flagged", "reservoir"]
NO_INPUTS = "records hold no inputs (HOLDFAST_KEEP_INPUTS=off)"
EXPECTED_SAMPLE = (
    "all, flagged, a share of the requests such as 0.1, or reservoir:N (N instances of each model)"
)
EXPECTED_LIMITS = "NAME:rows=N,bytes=N,days=D; entries end with ';', each limit may be left out"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_COUNT = re.compile(r"[1-9][0-9]{0,15}")
_DAYS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class ModelLimits(NamedTuple):
    """What of one model is kept at most: instances, bytes of inputs, days; None: as of all."""

    rows: int | None = None
    bytes: int | None = None
    days: float | None = None


class Sample(NamedTuple):
    """Which requests are recorded: `value` is the share, or the instances of a reservoir."""

    kind: Kind = "all"
    value: float = 1.0


ALL = Sample()


class Kept(NamedTuple):
    """What pruning leaves: instances that are within all of the limits, of all models together.

    `bytes` are those of inputs; `days` of 0 sets no limit. `models` has limits of single ones
    beside these, and `sample` says which requests are taken; a reservoir is thinned out by pruning.
    Without `inputs` they are recorded without them. `job_days` is the age at which the files of a
    job that has ended go; 0: never.
    """

    rows: int = 200_000
    bytes: int = 1 << 32
    days: float = 0.0
    models: Mapping[str, ModelLimits] = {}
    sample: Sample = ALL
    inputs: bool = True
    job_days: float = 0.0

    @property
    def only_flagged(self) -> bool:
        """Whether what is recorded is no fair picture of the traffic."""
        return self.sample.kind == "flagged"


def parse_sample(text: str) -> Sample:
    """Parse which requests are recorded.

    >>> parse_sample("0.1"), parse_sample("reservoir:5000").value
    (Sample(kind='share', value=0.1), 5000.0)

    Raises:
        InputError: it reads otherwise.
    """
    if text in ("all", "flagged"):
        return Sample(text)  # type: ignore[arg-type]
    name, _, count = text.partition(":")
    if name == "reservoir" and _COUNT.fullmatch(count):
        return Sample("reservoir", float(count))
    if re.fullmatch(r"0?\.[0-9]{1,9}|1(\.0{1,9})?", text) and float(text) > 0:
        return Sample("share", float(text))
    raise InputError("record_sample", EXPECTED_SAMPLE, repr(text)[:60])


def parse_model_limits(text: str) -> Mapping[str, ModelLimits]:
    """Parse limits of single models.

    >>> parse_model_limits("digits:rows=1000,days=2.5")["digits"]
    ModelLimits(rows=1000, bytes=None, days=2.5)

    Raises:
        InputError: it reads otherwise, or names a model or a limit twice.
    """
    limits: dict[str, ModelLimits] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, rest = (word.strip() for word in part.partition(":"))
        values: dict[str, float] = {}
        for entry in rest.split(","):
            key, _, number = (word.strip() for word in entry.partition("="))
            form = _DAYS if key == "days" else _COUNT
            known = key in ModelLimits._fields and key not in values and form.fullmatch(number)
            if not known or not _NAME.fullmatch(name) or name in limits:
                raise InputError("record_limits", EXPECTED_LIMITS, repr(part)[:60])
            values[key] = float(number) if key == "days" else int(number)
        limits[name] = ModelLimits(**values)  # type: ignore[arg-type]
    return limits
