"""What a job depends on, frozen in it when it starts: a changed setting breaks no running job."""

from typing import Literal

import msgspec

from models.evaluation.gates.checks import Bounds
from models.versions.registry import Registry
from monitoring.loop.jobs import Job, JsonObject, Task
from monitoring.records.usable import Quota

Mode = Literal["auto", "manual", "report"]
LOOP_VERSION = "7"  # a workflow begun under one version is never continued under another


class Workplace(msgspec.Struct, frozen=True):
    """Where the loop works; no part of a job, so that a state directory can be moved.

    `lease` is the watcher's token (`monitoring.records.lease`); 0: no other can take its place.
    """

    state: str
    database_url: str
    lease: int = 0


class Terms(msgspec.Struct, frozen=True):
    """How the loop is run; each field is a setting, in seconds where it is a time."""

    mode: Mode = "auto"
    approval_timeout_seconds: float = 86_400.0
    shadow_seconds: float = 30.0
    canary: float = 0.0  # share of the requests
    canary_seconds: float = 600.0
    probation_seconds: float = 30.0
    retrain_epochs: int = 20
    min_labels: int = 300
    labeller_share: float = 0.5
    label_patience_seconds: float = 900.0
    step_timeout_seconds: float = 3600.0
    trusted_labellers: tuple[str, ...] = ()
    bounds: Bounds = Bounds()
    loop: str = LOOP_VERSION


def frozen(terms: Terms) -> JsonObject:
    """The terms as a job keeps them."""
    return dict(msgspec.to_builtins(terms))


def terms_of(job: Job) -> Terms:
    """The terms that a job began under; the defaults where it knows none."""
    return msgspec.convert(job.terms, Terms)


def task_of(job: Job, registry: Registry, place: Workplace) -> Task:
    """What a child of the job needs to know."""
    terms = terms_of(job)
    return Task(
        job=job,
        registry=str(registry.root),
        database_url=place.database_url,
        retrain_epochs=terms.retrain_epochs,
        bounds=terms.bounds,
        keys=registry.keys,
        lease=place.lease,
    )


def quota_of(terms: Terms) -> Quota:
    """How many rows of a window one client may label beside others.

    At least its share of the rows that a retraining needs, so that few labels of a stranger leave
    an evaluation its rows; a window that is large enough to train on holds the share.
    """
    return Quota(terms.labeller_share, least=int(terms.labeller_share * terms.min_labels))


def begun_elsewhere(job: Job) -> bool:
    """Whether another version of the loop began it."""
    return bool(job.terms) and terms_of(job).loop != LOOP_VERSION
