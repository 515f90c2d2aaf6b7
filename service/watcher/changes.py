"""What a person changes through the watcher: holds, champions, answers, runs, what is normal.

Each change has a reason and names the token that it came with. What the registry keeps is changed
there, so that the command line has the same effect without a watcher.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus

import msgspec

from models.versions.registry import Registry
from models.versions.registry_state import HeldError
from monitoring.loop.dispatcher import NotStartedError
from monitoring.loop.durable.faults import passing_words
from monitoring.loop.jobs import AnsweredError, Job, NotWaitingError, PersonAnswer, UnknownJobError
from monitoring.loop.triggers import Event
from monitoring.watching.acceptance import AcceptanceError
from monitoring.watching.watcher import Watcher
from service.watcher import bodies
from service.watcher.acceptance import accept, undo
from service.watcher.demo import Demo, DemoError
from service.watcher.holds import find_state
from service.web.call import Call, Endpoint
from service.web.errors import ConflictError, NotFoundError, RequestError, UnavailableError
from service.web.reply import Reply, json_reply


@dataclass(frozen=True)
class Changes:
    """The calls that change something; threads share one, while the watcher ticks in another."""

    watcher: Watcher
    clock: Callable[[], float]
    demo: Demo

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Their addresses: all of them for the admin token."""
        handlers: dict[str, Callable[..., Reply]] = {
            "/jobs": self.start,
            "/jobs/<job_id>/<any(approve,reject):answer>": self.answer,
            "/models/<model>/promote": self.promote,
            "/models/<model>/rollback": self.rollback,
            "/models/<model>/hold": self.hold,
            "/models/<model>/release": self.release,
            "/models/<model>/accept-drift": self.accept_drift,
            "/demo": self.show,
        }
        return tuple(
            Endpoint("POST", rule, say_what_passes(handler), "admin")
            for rule, handler in handlers.items()
        )

    @property
    def registry(self) -> Registry:
        """Where models and their holds are kept."""
        return self.watcher.registry

    def start(self, call: Call) -> Reply:
        """Start a run of the loop."""
        wish = bodies.read_record(call.body(), bodies.StartBody)
        self.registry.aliases(wish.model)  # raises where the model is unknown or damaged
        event = Event("person", wish.model, wish.kind, wish.since, wish.reason)
        try:
            decision = self.watcher.dispatcher.consider(event, self.clock(), dict(wish.options))
        except NotStartedError as error:
            raise UnavailableError(str(error)) from error
        if decision.start is None:
            raise _refusal(str(decision.refusal), decision.detail)
        return json_reply(self.watcher.jobs.get(decision.detail), HTTPStatus.ACCEPTED)

    def answer(self, call: Call, job_id: str, answer: str) -> Reply:
        """Answer a job that waits, for its challenger or for changed labels; the first counts."""
        wish = bodies.read_record(call.body(), bodies.ReasonBody)
        reason, approved = wish.reason, answer == "approve"
        job = self.find(job_id)
        self._require_champion(job.model, wish.expected)
        if approved and job.state == "waiting":
            self._require_release(job)
        decision = PersonAnswer(approved, call.actor, reason, self.clock())
        try:
            self.watcher.jobs.answer(job_id, decision)
        except AnsweredError as error:
            first = msgspec.to_builtins(error.answer)
            raise ConflictError(str(error), answer=first) from None
        except NotWaitingError as error:
            raise ConflictError(str(error)) from None
        document = {"id": job_id, "answer": answer, "actor": decision.actor, "reason": reason}
        return json_reply(document, HTTPStatus.ACCEPTED)

    def promote(self, call: Call, model: str) -> Reply:
        """Make a version the champion, also under a hold, which stays."""
        wish = bodies.read_record(call.body(), bodies.PromoteBody)
        self.registry.promote(
            model,
            wish.version,
            expected=wish.expected,
            actor=call.actor,
            reason=wish.reason,
            by_person=True,
        )
        return json_reply(find_state(self.registry, model))

    def rollback(self, call: Call, model: str) -> Reply:
        """Bring the previous champion back; from now on the loop only reports."""
        wish = bodies.read_record(call.body(), bodies.RollbackBody)
        self._require_champion(model, wish.expected)
        self.registry.rollback(
            model, expected=wish.expected, actor=call.actor, reason=wish.reason, by_person=True
        )
        return json_reply(find_state(self.registry, model))

    def hold(self, call: Call, model: str) -> Reply:
        """The loop shall leave a model alone."""
        wish = bodies.read_record(call.body(), bodies.HoldBody)
        self._require_champion(model, wish.expected)
        self.registry.hold(model, actor=call.actor, reason=wish.reason, until=wish.end)
        return json_reply(find_state(self.registry, model))

    def release(self, call: Call, model: str) -> Reply:
        """End all holds of a model."""
        wish = bodies.read_record(call.body(), bodies.ReasonBody)
        self._require_champion(model, wish.expected)
        reason = wish.reason
        released = self.registry.release(model, actor=call.actor, reason=reason)
        return json_reply(find_state(self.registry, model, released))

    def accept_drift(self, call: Call, model: str) -> Reply:
        """Traffic of a recorded period is normal now, or no longer."""
        wish = bodies.read_record(call.body(), bodies.AcceptBody)
        self.registry.aliases(model)  # raises where the model is unknown or damaged
        if wish.undo:
            return json_reply(undo(self.registry, model, wish.reason, call.actor))
        stream = self.watcher.streams.get(model)
        if stream is None:
            raise ConflictError(f"{model} is not watched: GET /models says why")
        history = self.watcher.acceptances.history(stream)
        try:
            state = accept(self.registry, stream, history, wish, call.actor, self.clock())
        except AcceptanceError as error:
            raise ConflictError(str(error), faults=error.faults) from None
        return json_reply(state)

    def show(self, call: Call) -> Reply:
        """Begin or end the demonstration."""
        wish = bodies.read_record(call.body(), bodies.DemoBody)
        if not wish.run:
            return json_reply(self.demo.end())
        try:
            return json_reply(self.demo.begin(wish.model), HTTPStatus.ACCEPTED)
        except DemoError as error:
            raise ConflictError(str(error)) from None

    def find(self, job_id: str) -> Job:
        """A job. Raises NotFoundError."""
        try:
            return self.watcher.jobs.get(job_id)
        except UnknownJobError as error:
            raise NotFoundError(str(error)) from None

    def _require_champion(self, model: str, seen: int | None) -> None:
        """Refuse what was decided with another champion in view, and say who changed it."""
        champion = self.registry.aliases(model).champion
        if seen is None or champion == seen:
            return
        last = next(
            (
                r
                for r in reversed(self.registry.audit(model))
                if r.action in ("promote", "rollback")
            ),
            None,
        )
        who = "" if last is None else f"; {last.actor} did so at {last.at} ({last.reason})"
        moved = f"{model}: version {seen} was the champion that you saw, it is {champion} now"
        raise ConflictError(f"{moved}{who}", champion=champion)

    def _require_release(self, job: Job) -> None:
        """Refuse an approval that a hold would undo: it waits until that is settled."""
        if (hold := self.registry.find_hold(job.model)) is not None:
            text = f"{HeldError(job.model, hold)}; job {job.id} waits on"
            raise ConflictError(text, hold=msgspec.to_builtins(hold))


def say_what_passes(handler: Callable[..., Reply]) -> Callable[..., Reply]:
    """The handler, which answers 503 where a locked store or a full disk is in the way."""

    @wraps(handler)
    def answer(call: Call, **arguments: str) -> Reply:
        try:
            return handler(call, **arguments)
        except Exception as error:
            words = passing_words(error)
            if words is None or isinstance(error, RequestError):
                raise
            raise UnavailableError(f"{words}: look how it stands, and try again") from error

    return answer


def _refusal(name: str, detail: str) -> RequestError:
    """Why a person's job did not start, as the answer."""
    text = f"{name}: {detail}"
    return NotFoundError(text) if name == "no_champion" else ConflictError(text)
