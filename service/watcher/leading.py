"""One of several watchers leads; the others answer as standbys until its lease runs out.

A thread takes and renews the lease. A watcher that has lost it ends its process, which is started
again and stands by: nothing that it had under way has to be undone (`monitoring.records.lease`).
"""

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from models.base.logs import logger
from monitoring.records.lease import LEASE_SECONDS, Candidate, Holder, Lease
from monitoring.watching.pulse import Readiness
from service.configuration.addresses import bind_text
from service.configuration.settings import Settings
from service.configuration.state_locks import state_id
from service.web.call import Call, Endpoint
from service.web.errors import UnavailableError
from service.web.reply import Reply, json_reply

RENEW_SECONDS = 3.0
TAKE_SECONDS = 1.0  # between two looks of a standby
STANDBY = "standby"
LEADER_METRIC = "holdfast_watcher_leader"
AS_STANDBY = ("/healthz", "/jobs", "/jobs/<job_id>", "/jobs/<job_id>/verdict")  # read the database
log = logger("watcher")

Key = tuple[str, str]  # method and rule of an endpoint


class Parts(NamedTuple):
    """A watcher that may be asked: its addresses and its metrics."""

    calls: tuple[Endpoint, ...]
    metrics: CollectorRegistry


@dataclass
class Leadership:
    """Whether this watcher leads, and what it answers in either case.

    Args:
        lease: that is taken and kept.
        idle: what answers while it stands by.
        lead: begins to watch, and returns what answers from then on.
        leave: ends the process.
        stop: set when the process ends.
    """

    lease: Lease
    idle: Parts
    lead: Callable[[], Parts]
    leave: Callable[[], None]
    stop: threading.Event
    active: Parts | None = None
    fault: str = ""  # why the lease cannot be asked for; empty where it can
    holder: Holder | None = None  # as last seen by a standby
    _handlers: Mapping[Key, Callable[..., Reply]] = field(default_factory=dict)

    def start(self) -> None:
        """Begin to take the lease."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def _run(self) -> None:
        """Take the lease, lead, renew it until told to stop."""
        while not self.stop.is_set():
            try:
                if not self.look():
                    return
                self._note("")
            except (sa.exc.SQLAlchemyError, OSError) as error:
                self._note(str(getattr(error, "orig", None) or error).strip())
            self.stop.wait(RENEW_SECONDS if self.lease.token else TAKE_SECONDS)

    def look(self) -> bool:
        """Take or renew the lease once; False where this process ends. Raises SQLAlchemyError."""
        lease = self.lease
        if lease.token and not lease.renew():
            log.error("lease_lost", token=lease.token, holder=self._seen_name())
            self.leave()
            return False
        if not lease.token:
            before = lease.holder()
            if not lease.take():
                self._stand_by(before)
                return True
            since = None if before is None else before.name
            log.warning("watcher_leads", token=lease.token, after=since)
            return self._begin()
        return True

    def end(self) -> None:
        """Let the next one lead at once, where this one does."""
        if self.lease.leads():
            try:
                self.lease.release()
            except sa.exc.SQLAlchemyError as error:
                log.warning("lease_not_released", error=str(error))

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The addresses of a watcher, which answer as what it is."""
        standing = {(e.method, e.rule): e.handler for e in self.idle.calls if e.rule in AS_STANDBY}
        standing["GET", "/readyz"] = self._readyz
        standing["GET", "/metrics"] = self._metrics
        return tuple(
            e._replace(handler=partial(self._answer, (e.method, e.rule), standing))
            for e in self.idle.calls
        )

    def words(self) -> str:
        """Why this watcher does not act now."""
        if self.active is not None:
            return f"it is not known whether this watcher leads still: {self.fault or 'no answer'}"
        if self.fault:
            return f"this watcher stands by, and the lease cannot be asked for: {self.fault}"
        holder = self.holder
        if holder is None:
            return "this watcher stands by: nobody leads yet"
        since = datetime.fromtimestamp(holder.since, UTC).isoformat(timespec="seconds")
        state = "" if holder.state == self.lease.candidate.state else ", on another state directory"
        return (
            f"this watcher stands by: {holder.name} leads since {since}{state}, and for "
            f"{holder.left_seconds:.0f} s without a sign of life"
        )

    def _answer(
        self,
        key: Key,
        standing: Mapping[Key, Callable[..., Reply]],
        call: Call,
        **arguments: str,
    ) -> Reply:
        if self.active is None:
            if (handler := standing.get(key)) is not None:
                return handler(call, **arguments)
            raise UnavailableError(self.words())
        unsure = not self.lease.leads()
        if unsure and key[1] == "/readyz":
            return self._readyz(call)
        if unsure and key[0] != "GET":
            raise UnavailableError(self.words())
        return self._handlers[key](call, **arguments)

    def _readyz(self, call: Call) -> Reply:
        status = STANDBY if self.active is None else "not known to lead"
        report = Readiness(
            status=status, reason=self.words(), last_look=None, limit_seconds=LEASE_SECONDS
        )
        return json_reply(report, HTTPStatus.SERVICE_UNAVAILABLE)

    def _metrics(self, call: Call) -> Reply:
        """A standby has looked at nothing: of its metrics only this one is true."""
        registry = self.idle.metrics.restricted_registry([LEADER_METRIC])
        return Reply(generate_latest(registry), media=CONTENT_TYPE_LATEST)

    def _begin(self) -> bool:
        """Begin to watch; where that fails half-way, a new process tries again."""
        try:
            active = self.lead()
        except Exception:
            log.exception("leading_failed")
            self.leave()
            return False
        self._handlers = {(e.method, e.rule): e.handler for e in active.calls}
        self.active = active
        return True

    def _stand_by(self, holder: Holder | None) -> None:
        if holder is not None and self._seen_name() != holder.name:
            log.info("watcher_stands_by", holder=holder.name, token=holder.token)
        self.holder = holder

    def _seen_name(self) -> str:
        return "" if self.holder is None else self.holder.name

    def _note(self, fault: str) -> None:
        if fault and not self.fault:
            log.warning("lease_not_known", error=fault, leads=self.lease.leads())
        self.fault = fault


def candidate_of(settings: Settings) -> Candidate:
    """This watcher as a candidate.

    Its place is the socket that it listens on: of this boot of this machine, in this network
    namespace. No two processes can listen there.
    """
    address = bind_text(settings.watch_host, settings.watch_port)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/net").readlink()
    name = f"{socket.gethostname()} {address}"
    return Candidate(f"{boot} {namespace} {address}", name, state_id(settings))


def shares_lease(lease: Lease) -> bool:
    """Whether nobody leads with another state directory, whose jobs would be mixed with ours.

    A database that is away is asked later.
    """
    try:
        holder = lease.holder()
    except (sa.exc.SQLAlchemyError, OSError):
        return True
    return holder is None or not holder.left_seconds or holder.state == lease.candidate.state
