"""The routes: a painting from the first byte of a request to the last of its answer, styles, health, metrics, files."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fastnst.serve.asked import MEDIA_TYPES, Asked, acceptable, read_asked, read_query
from fastnst.serve.bodies import read_body, until_gone
from fastnst.serve.forms import Form, boundary_of, read_form
from fastnst.serve.metrics import MEDIA_TYPE
from fastnst.serve.problems import (
    BadRequestError,
    ClientGone,
    DeadlineError,
    DrainingError,
    MediaTypeError,
    MethodError,
    NotFoundError,
    UnavailableNowError,
)
from fastnst.serve.security import Guard, Log, Security
from fastnst.serve.service import Painting, Service
from fastnst.serve.site import StaticFile
from fastnst.serve.static import PIECE, Static, has_tag, tag_of

OPENAPI = Path(__file__).parent / "openapi.json"

_FORM = "multipart/form-data"
# Beside pictures of any kind: what clients say when they are not told what they send.
_RAW = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_FRESH = {"Cache-Control": "no-store"}


class Api:
    """The handlers of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.static = Static(service.files)
        page = json.loads(_content(service.files["styles.json"]))
        self.default: str = page["default"]
        about = {name: page[name] for name in ("default", "limits", "styles")}
        self.styles = json.dumps(about, ensure_ascii=False).encode()
        self.tag = f'"{tag_of(self.styles)}"'
        self.document = json.dumps(_described([style["name"] for style in page["styles"]])).encode()

    async def list_styles(self, request: Request) -> Response:
        """The styles, as styles.json has them."""
        headers = {"ETag": self.tag, "Cache-Control": "no-cache"}
        if has_tag(request.headers.get("if-none-match", ""), self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.styles, headers=headers, media_type="application/json")

    async def alive(self, _: Request) -> Response:
        """Whatever else there is, somebody answers."""
        return JSONResponse({"status": "alive"}, headers=_FRESH)

    async def ready(self, _: Request) -> Response:
        """Whether paintings are made: not before every style has painted its test picture, not at the end."""
        if self.service.line.draining:
            raise DrainingError("the service is stopping; ask another one", seconds=5)
        if self.service.trouble is not None:
            raise self.service.trouble
        return JSONResponse({"status": "ready"}, headers=_FRESH)

    async def tell_metrics(self, _: Request) -> Response:
        """The counters."""
        return Response(self.service.metrics.text(), headers=_FRESH, media_type=MEDIA_TYPE)

    async def describe(self, _: Request) -> Response:
        """The API as OpenAPI."""
        return Response(self.document, headers={"Cache-Control": "no-cache"}, media_type="application/json")

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A file of the page, at every other address; one that is spelled otherwise is another one."""
        raw: bytes = scope["raw_path"]
        address = "index.html" if raw == b"/" else "" if b"%" in raw else scope["path"][1:]
        if address in self.static.files and scope["method"] not in ("GET", "HEAD"):
            raise MethodError("this address knows GET and HEAD", headers={"Allow": "GET, HEAD"})
        response = await self.static.answer(address, Headers(scope=scope))
        await response(scope, receive, send)

    async def stylize(self, request: Request) -> Response:
        """A painting of the picture in the body."""
        wanted = acceptable(", ".join(request.headers.getlist("accept")) or None)
        content_type = request.headers.get("content-type", "")
        kind = content_type.partition(";")[0].strip().lower()
        boundary = boundary_of(content_type) if kind == _FORM else None
        if boundary is None and kind not in _RAW and not kind.startswith("image/"):
            raise MediaTypeError(f"the body is {kind[:60]!r} but must be a picture, as image/*, or {_FORM}")
        query = read_query(request.scope["query_string"])
        if boundary is None:
            self._asked(query, mask=False)  # before anything is read
        service = self.service
        try:
            with ExitStack() as held:
                held.enter_context(service.line.place())
                declared = request.headers.get("content-length")
                body = await read_body(request.receive, service.limits.max_bytes, declared)
                form = Form([], {"image": body}) if boundary is None else await _form(body, boundary)
                del body
                asked = self._asked(query + form.options, mask="mask" in form.files)
                request.state.note.more["style"] = ",".join(asked.styles)
                painting = Painting(service, form, asked, wanted)
                data, format = await _unless_gone(painting.make(), request)
                return Painted(data, format, asked.styles[0], painting.timing, held.pop_all())
        except (UnavailableNowError, DeadlineError, ClientGone) as error:
            reason = "left" if isinstance(error, ClientGone) else getattr(error, "code", "")
            service.metrics.rejected.labels(reason).inc()
            raise

    def _asked(self, given: list[tuple[str, str]], *, mask: bool) -> Asked:
        return read_asked(given, mask=mask, served=self.service.painters.styles, default=self.default)


class Painted(Response):
    """A painting, sent as fast as its client takes it; its place in the line is held until then."""

    def __init__(self, data: bytes, format: str, style: str, timing: dict[str, float], held: ExitStack) -> None:
        suffix = {"JPEG": "jpg"}.get(format, format.lower())
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'inline; filename="{style}.{suffix}"',
            "Server-Timing": ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in timing.items()),
            "Vary": "Accept",
        }
        super().__init__(data, headers=headers, media_type=MEDIA_TYPES[format])
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with self.held:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for start in range(0, len(self.body), PIECE):
                await send({"type": "http.response.body", "body": self.body[start : start + PIECE], "more_body": True})
            await send({"type": "http.response.body"})


def application(service: Service, guard: Guard, log: Log) -> Starlette:
    """The service as an ASGI application."""
    api = Api(service)
    routes = [
        Route("/livez", api.alive),
        Route("/readyz", api.ready),
        Route("/metrics", api.tell_metrics),
        Route("/openapi.json", api.describe),
        Route("/v1/styles", api.list_styles),
        Route("/v1/stylize", api.stylize, methods=["POST"]),
    ]
    security = Middleware(Security, guard=guard, metrics=service.metrics, log=log)
    app = Starlette(routes=routes, middleware=[security], exception_handlers={HTTPException: _refuse})
    app.router.redirect_slashes = False
    app.router.default = api.page
    return app


async def _unless_gone(work: Any, request: Request) -> Any:
    """The result of work, unless its client leaves: then it is given up, and ClientGone raised."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


def _described(styles: Sequence[str]) -> dict[str, Any]:
    """The API as OpenAPI, with the styles that there are."""
    document: dict[str, Any] = json.loads(OPENAPI.read_bytes())
    document["components"]["schemas"]["Style"]["enum"] = [*styles]
    return document


async def _form(body: bytes, boundary: bytes) -> Form:
    return await asyncio.to_thread(read_form, body, boundary)


def _content(file: StaticFile) -> bytes:
    return file.content if isinstance(file.content, bytes) else file.content.read_bytes()


def _refuse(_: Request, error: Exception) -> NoReturn:
    """What Starlette refuses, as one of our errors."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        raise MethodError(f"this address knows {allowed}", headers={"Allow": allowed})
    if error.status_code == 404:
        raise NotFoundError("there is nothing at this address")
    raise BadRequestError(error.detail)
