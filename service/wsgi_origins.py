"""The WSGI side of `service.origins`: what it asks for, and the hook of the watcher."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, g, request

from service.errors import RequestError, told
from service.origins import Asked, Headers, Origins
from service.settings import Settings


def origins_of(settings: Settings, host: str, tokens_needed: Callable[[], bool]) -> Origins:
    """The law of one listening address under these settings."""
    return Origins(
        host,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        tokens_needed=tokens_needed,
    )


def asked(environ: Mapping[str, Any]) -> Asked:
    """What `Origins` looks at, of a WSGI environ."""
    return Asked(
        environ["REQUEST_METHOD"],
        environ.get("HTTP_HOST"),
        environ.get("HTTP_ORIGIN"),
        environ.get("HTTP_SEC_FETCH_SITE"),
        environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD"),
    )


def with_headers(start_response: Callable[..., Any], more: Headers) -> Callable[..., Any]:
    """A `start_response` that sends `more` headers, whatever is answered."""

    def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, *more], *rest)

    return started


def protect(app: Flask, origins: Origins) -> None:
    """Let an application judge every request first, whatever its address."""

    def judge() -> Response | None:
        g.origin_headers = ()
        try:
            verdict = origins.judge(asked(request.environ))
        except RequestError as error:
            media, body = told("/", error.status, str(error))
            return Response(body, error.status, content_type=media)
        g.origin_headers = verdict.headers
        return Response(status=204) if verdict.preflight else None

    def finish(response: Response) -> Response:
        response.headers.extend(list(g.get("origin_headers", ())))
        return response

    app.before_request(judge)
    app.after_request(finish)
