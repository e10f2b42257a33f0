"""What every request passes: who may ask, the headers of every answer, one line in the log."""

import asyncio
import hmac
import json
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastnst.errors import FastnstError
from fastnst.serve import problems
from fastnst.serve.metrics import Metrics
from fastnst.serve.problems import BadRequestError, ClientGone, DrainingError, ForbiddenError, UnauthorizedError

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
ROUTES = ("/livez", "/readyz", "/metrics", "/openapi.json", "/v1/styles", "/v1/stylize")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINGER = 2.0  # seconds for which the rest of a refused body is thrown away, so that its sender reads the answer

Log = Callable[[dict[str, Any]], None]


@dataclass
class Note:
    """What is said of a request in the log."""

    id: str
    route: str
    begun: float = field(default_factory=time.perf_counter)
    status: int = 0
    received: int = 0
    sent: int = 0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Guard:
    """Who may ask."""

    hosts: Collection[str] | None  # the names under which the service is reached; None is any
    origins: Collection[str]  # other addresses of its pages
    token: str | None

    def check(self, method: str, path: str, headers: MutableMapping[str, str]) -> None:
        """BadRequestError for a foreign host, ForbiddenError for another site's page, UnauthorizedError without token.

        A page of another site may send a form anywhere, and under a name that it has pointed to this machine it could
        read the answers, too (DNS rebinding).
        """
        host = headers.get("host", "")
        if self.hosts is not None and host_name(host) not in self.hosts:
            raise BadRequestError("the service is not reached under this Host; use its own address, or add --origin")
        origin = headers.get("origin")
        own = {f"http://{host.lower()}", f"https://{host.lower()}", *self.origins}
        if method not in ("GET", "HEAD") and origin is not None and origin.lower() not in own:
            raise ForbiddenError("the request comes from a page of another site; use the service's own page")
        if self.token is not None and (path.startswith("/v1/") or path == "/metrics"):
            self._check_token(headers.get("authorization", ""))

    def _check_token(self, given: str) -> None:
        assert self.token is not None
        scheme, _, token = given.partition(" ")
        right = hmac.compare_digest(token.strip().encode("latin-1", "replace"), self.token.encode())
        if scheme.lower() != "bearer" or not right:
            raise UnauthorizedError(
                "the service wants its token; send it as Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="fastnst"'},
            )


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    name = host.lower().rsplit(":", 1)[0] if re.search(r":\d*$", host) else host.lower()
    return name.rstrip(".")


class Security:
    """ASGI middleware around everything: checks, headers, errors as problems, log and metrics."""

    def __init__(self, app: ASGIApp, *, guard: Guard, metrics: Metrics, log: Log) -> None:
        self.app, self.guard, self.metrics, self.log = app, guard, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        route = scope["path"] if scope["path"] in ROUTES else "page"
        note = Note(given if _ID.fullmatch(given) else secrets.token_hex(8), route)
        scope.setdefault("state", {})["note"] = note
        exchange = _Exchange(note, headers, receive, send)
        try:
            await self._answer(scope, headers, exchange)
        finally:
            self._record(scope, note)

    async def _answer(self, scope: Scope, headers: dict[str, str], exchange: "_Exchange") -> None:
        note = exchange.note
        try:
            if "content-length" in headers and "transfer-encoding" in headers:
                raise BadRequestError("the body has a Content-Length and a Transfer-Encoding; give one")
            self.guard.check(scope["method"], scope["path"], headers)
            await self.app(scope, exchange.receive, exchange.send)
        except ClientGone:
            note.status = 499  # as nginx logs it
        except asyncio.CancelledError:  # the service ends and waits no longer
            if not exchange.started:
                await exchange.tell(DrainingError("the service was stopped before this was done; send it again"))
            raise
        except FastnstError as error:
            await exchange.tell(error)
        except Exception as error:
            note.more["trace"] = traceback.format_exc()
            if exchange.started:
                raise
            await exchange.tell(FastnstError(str(error)))

    def _record(self, scope: Scope, note: Note) -> None:
        seconds = time.perf_counter() - note.begun
        self.metrics.requests.labels(note.route, str(note.status)).inc()
        self.metrics.seconds.labels(note.route).observe(seconds)
        client = scope.get("client")
        self.log(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "id": note.id,
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": note.status,
                "seconds": round(seconds, 4),
                "received": note.received,
                "sent": note.sent,
                **note.more,
            }
        )


class _Exchange:
    """One request and its answer, whose headers are completed, and after which the rest of a body is thrown away."""

    def __init__(self, note: Note, headers: dict[str, str], receive: Receive, send: Send) -> None:
        self.note, self._receive, self._send = note, receive, send
        self.unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self.waits = "expect" in headers  # for a 100 before it sends the body
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.note.received += len(message.get("body", b""))
            self.unread = self.unread and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.note.status = True, message["status"]
            added = {**HEADERS, "x-request-id": self.note.id}
            if self.unread:
                added["connection"] = "close"
            message = {**message, "headers": [*message["headers"], *_encoded(added)]}
            await self._send(message)
            return
        self.note.sent += len(message.get("body", b""))
        last = not message.get("more_body", False)
        if not (last and self.unread):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        if not self.waits:
            await self._throw_away()
        await self._send({"type": "http.response.body"})

    async def tell(self, error: FastnstError) -> None:
        """Answer with a problem."""
        status = error.http_status
        self.note.more["code"] = error.code
        if status == 500:
            self.note.more["error"] = str(error)
        body = problems.problem(error, self.note.id)
        headers = {
            "content-type": problems.MEDIA_TYPE,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            **{name.lower(): value for name, value in getattr(error, "headers", {}).items()},
        }
        await self.send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
        await self.send({"type": "http.response.body", "body": body})

    async def _throw_away(self) -> None:
        """A connection that is closed with bytes unread is reset, and the answer lost with it."""
        try:
            async with asyncio.timeout(_LINGER):
                while self.unread and (await self.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            pass


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def log_line(values: dict[str, Any]) -> None:
    """One line of JSON on stderr, everything that is no plain character escaped."""
    with suppress(OSError):  # a reader that has ended is no reason to end
        sys.stderr.write(json.dumps(values).replace("\x7f", "\\u007f") + "\n")
        sys.stderr.flush()
