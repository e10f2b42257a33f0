"""Bodies of requests on their way in: so many bytes, not too slowly, and whether somebody still waits."""

import asyncio
import time

from starlette.types import Receive

from fastnst.serve.problems import ClientGone, SlowRequestError, TooManyBytesError

SLOWEST = 10.0  # seconds for a body
PER_SECOND = 64 << 10  # for each so many bytes of it that have arrived there is another


async def read_body(receive: Receive, most: int, declared: str | None) -> bytes:
    """All bytes of a body.

    Raises TooManyBytesError, from the declared length before anything is read, SlowRequestError for one that stays
    away, ClientGone.
    """
    if declared is not None and declared.isdigit() and int(declared) > most:
        raise _too_many(most)
    body = bytearray()
    begun = time.monotonic()
    more = True
    while more:
        left = begun + SLOWEST + len(body) / PER_SECOND - time.monotonic()
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError as error:
            raise SlowRequestError(
                f"the body did not arrive: {len(body)} bytes in {time.monotonic() - begun:.0f} seconds; send it faster"
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_many(most)
        more = message.get("more_body", False)
    return bytes(body)


async def until_gone(receive: Receive) -> None:
    """Wait, once the body is read, until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_many(most: int) -> TooManyBytesError:
    return TooManyBytesError(f"the body has more than {most} bytes; save the picture smaller, or scale it down first")
