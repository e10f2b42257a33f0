"""HTTP/1.1 on one connection: uvicorn's, with limits for clients that are slow on purpose."""

import asyncio
import secrets
import socket
import struct
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastnst.serve import problems
from fastnst.serve.problems import BadRequestError
from fastnst.serve.security import HEADERS

SLOWEST = 10.0  # seconds for the headers of a request, and for a client to take what fits into its buffers
KEEP_ALIVE = 5  # seconds between two requests
CONNECTIONS = 1000  # at once; more are closed


class Protocol(H11Protocol):
    """A connection that is closed if its client does not send, or does not read, for too long."""

    _reading: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._between_requests():
            self._wait_for_headers()
        else:
            self._stop_reading_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_timer()
        self._stop_writing_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self._writing or self.loop.call_later(SLOWEST, self._reset)

    def resume_writing(self) -> None:
        self._stop_writing_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """What is no HTTP is answered like everything else, and the connection closed."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # in the middle of another answer
            self.transport.close()
            return
        error = BadRequestError("the request is no valid HTTP/1.1; check its first line and its headers")
        request_id = secrets.token_hex(8)
        body = problems.problem(error, request_id)
        headers = {
            **HEADERS,
            "x-request-id": request_id,
            "content-type": problems.MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
        }
        response: Any = h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_headers(self) -> None:
        if self._reading is None and not self.transport.is_closing():
            self._reading = self.loop.call_later(SLOWEST, self._reset)

    def _reset(self) -> None:
        """Close at once, without what is still to be sent: the system would keep that for minutes."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            form = "hh" if sys.platform == "win32" else "ii"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(form, 1, 0))
        self.transport.abort()

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing_timer(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
