"""Finds the endpoint of an address in Flask's `url_map`, by the path as it was sent.

An address has one spelling (`is_plain`), so that a proxy can restrict a path. Flask answers all
addresses except predictions, and answers unknown addresses and methods.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import BaseConverter, RequestRedirect

from service.web.call import Call, Endpoint
from service.web.error_reply import error_reply
from service.web.observer import UNMATCHED, Observer
from service.web.reply import Reply
from service.web.request_id import state_id

CALL = "holdfast.call"  # where the scope of a request holds it, for Flask's views
MATCHES_KEPT = 1024
LONGEST_KEPT = 256  # characters of a path

Answerer = Callable[[Endpoint, Call, Mapping[str, str]], Reply]


class _Name(BaseConverter):
    """A part of a path; a colon ends it, as in `/v1/models/<model>:predict`."""

    regex = "[^/:]+"
    part_isolating = True


class Match(NamedTuple):
    """An endpoint and what its rule found in the path."""

    endpoint: Endpoint
    arguments: Mapping[str, str]


class Router:
    """Finds endpoints, and answers through Flask.

    Args:
        endpoints: all of them.
        answer: calls an endpoint; it is looked up at each call, so that tracing can wrap it.
        observe: called with every answer of Flask.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        answer: Callable[[], Answerer],
        observe: Observer,
    ) -> None:
        self._by_name = {f"{e.method} {e.rule}": e for e in endpoints}
        self._answer, self._observe = answer, observe
        self.flask = self._build_flask()
        self._adapter = self.flask.url_map.bind("")
        self._remembered = lru_cache(MATCHES_KEPT)(self._match)

    def match(self, path: str, method: str) -> Match | None:
        """The endpoint of an address, or None."""
        short = len(path) <= LONGEST_KEPT
        return self._remembered(path, method) if short else self._match(path, method)

    def _match(self, path: str, method: str) -> Match | None:
        if not is_plain(path):
            return None
        try:
            name, arguments = self._adapter.match(path, method)
        except (HTTPException, RequestRedirect):
            return None
        return Match(self._by_name[name], arguments) if name in self._by_name else None

    def _build_flask(self) -> Flask:
        """Flask with every endpoint behind its rule."""
        app = Flask("holdfast", static_folder=None)
        app.url_map.merge_slashes = False
        app.url_map.converters = {**app.url_map.converters, "default": _Name}
        for name, endpoint in self._by_name.items():
            app.add_url_rule(
                endpoint.rule,
                endpoint=name,
                view_func=self._view(endpoint),
                methods=[endpoint.method],
            )
        app.register_error_handler(Exception, self._answer_error)
        app.before_request(_begin)
        app.after_request(self._finish)
        return app

    def _view(self, endpoint: Endpoint) -> Callable[..., Response]:
        def view(**arguments: str) -> Response:
            return _response(self._answer()(endpoint, _call(), arguments))

        return view

    def _answer_error(self, error: Exception) -> Response:
        call = _call()
        reply = error_reply(call.path, error, UNMATCHED)
        return _response(state_id(reply, reply.id or call.id() or "", call.sent_id()))

    def _finish(self, response: Response) -> Response:
        rule = request.url_rule.rule if request.url_rule else UNMATCHED
        reply = g.get("reply") or Reply(b"", response.status_code)
        self._observe(rule, request.method, reply, time.perf_counter() - g.began)
        return response


def is_plain(path: str) -> bool:
    """Whether a path can be an address: no address has a percent sign or an empty part.

    werkzeug's router would accept both as other spellings of an address.

    >>> [is_plain(path) for path in ("/metrics", "//metrics", "/%6detrics")]
    [True, False, False]
    """
    return "%" not in path and "//" not in path


def _call() -> Call:
    call: Call = request.environ["asgi.scope"][CALL]
    return call


def _begin() -> Response | None:
    """Answer 404, before the view, where the path is another spelling of an address."""
    g.began = time.perf_counter()
    if not is_plain(_call().path):
        raise NotFound
    return None


def _response(reply: Reply) -> Response:
    g.reply = reply
    response = Response(reply.body, reply.status, content_type=reply.media)
    response.headers.extend(reply.headers)
    return response
