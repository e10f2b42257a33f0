"""What goes wrong between a client and the service, and how any error is told: RFC 9457 problems, never a path."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastnst.errors import FastnstError

MEDIA_TYPE = "application/problem+json"

# What went wrong inside is nobody's business outside; the log has it, under the id of the request.
_INSIDE = "something went wrong in the service; try again, and tell who runs it the request id if it stays"


@dataclass(frozen=True)
class Field:
    """One part of a request that is wrong."""

    field: str
    detail: str


class RequestError(FastnstError):
    """A request that is answered without painting."""

    def __init__(self, message: str, *, fields: Sequence[Field] = (), headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields, self.headers = fields, headers or {}


class BadRequestError(RequestError):
    """A request whose form is wrong."""

    http_status, code = 400, "bad_request"


class UnknownParameterError(BadRequestError):
    """A parameter that does not exist."""

    code = "unknown_parameter"


class InvalidParameterError(RequestError):
    """A parameter with a value that it cannot have."""

    http_status, code = 422, "invalid_parameter"


class UnauthorizedError(RequestError):
    """A request without the token."""

    http_status, code = 401, "unauthorized"


class ForbiddenError(RequestError):
    """A request that another site's page makes."""

    http_status, code = 403, "foreign_origin"


class NotFoundError(RequestError):
    """An address where nothing is."""

    http_status, code = 404, "not_found"


class UnknownStyleError(NotFoundError):
    """A style that is not served."""

    code = "style_not_found"


class MethodError(RequestError):
    """A method that an address does not know."""

    http_status, code = 405, "method_not_allowed"


class NotAcceptableError(RequestError):
    """A format that is not written."""

    http_status, code = 406, "not_acceptable"


class SlowRequestError(RequestError):
    """A body that does not arrive."""

    http_status, code = 408, "slow_request"


class TooManyBytesError(RequestError):
    """A body that is too long."""

    http_status, code = 413, "payload_too_large"


class MediaTypeError(RequestError):
    """A body that is no picture and no form."""

    http_status, code = 415, "unsupported_media_type"


class DecodeError(RequestError):
    """A picture that no decoder makes sense of."""

    http_status, code = 422, "undecodable_image"


class UnavailableNowError(RequestError):
    """A request that may succeed a little later."""

    http_status, code = 503, "unavailable"

    def __init__(self, message: str, *, seconds: float = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, math.ceil(seconds)))})


class BusyError(UnavailableNowError):
    """No place in the queue."""

    code = "busy"


class DrainingError(UnavailableNowError):
    """A service that is about to end."""

    code = "draining"


class NotReadyError(UnavailableNowError):
    """Styles that are not open yet."""

    code = "not_ready"


class OutOfMemoryError(UnavailableNowError):
    """A picture for which there is no memory now."""

    code = "out_of_memory"


class DeadlineError(RequestError):
    """Work that took too long."""

    http_status, code = 504, "deadline"


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def problem(error: FastnstError, request_id: str) -> bytes:
    """The body of an answer that tells an error, application/problem+json."""
    status = error.http_status
    body: dict[str, Any] = {
        "type": f"urn:fastnst:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _INSIDE if status == 500 else str(error),
        "code": error.code,
        "request_id": request_id,
    }
    if fields := getattr(error, "fields", ()):
        body["errors"] = [{"field": one.field, "detail": one.detail} for one in fields]
    return json.dumps(body).encode()
