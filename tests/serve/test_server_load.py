import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers.photos import noise
from helpers.picture_files import encoded
from helpers.servers import Server, post, read_all, serving, status_of, until

TARGET = "/v1/stylize?style=great-wave"
HUGE = encoded(noise(1900, 1900), "JPEG")  # ten seconds and more in great-wave-base


@pytest.fixture(scope="module")
def busy():
    """A service with one place to paint and one to wait."""
    with serving("--workers", "1", "--queue", "1", "--deadline", "60s") as server:
        yield server


def painting(server: Server) -> bool:
    return server.metric("fastnst_inflight") == 1


def taken(server: Server) -> float:
    return server.metric("fastnst_inflight") + server.metric("fastnst_queue_depth")


def in_background(*requests) -> list["Future[httpx.Response]"]:
    """Each in a thread of its own."""
    pool = ThreadPoolExecutor(len(requests))
    futures = [pool.submit(request) for request in requests]
    pool.shutdown(wait=False)
    return futures


@contextmanager
def occupied(server: Server, places: int) -> Iterator[None]:
    """So many clients hold a place, one of them painted, and leave at the end."""
    with ExitStack() as held:
        for _ in range(places):
            connection = held.enter_context(server.connect())
            connection.sendall(post(HUGE, f"Content-Length: {len(HUGE)}", target=f"{TARGET}-base"))
        until(lambda: painting(server) and taken(server) == places)
        yield
    until(lambda: taken(server) == 0)


# 64, 73


def test_more_than_there_are_places_for_is_refused_at_once(busy, png):
    refused = []
    with occupied(busy, 2):
        for _ in range(5):
            begun = time.monotonic()
            answer = busy.stylize(png)
            refused.append((answer.status_code, answer.json()["code"], time.monotonic() - begun))
            assert int(answer.headers["retry-after"]) >= 1
        large = busy.stylize(bytes(15 << 20))  # its sender reads the answer, too
        health = [busy.client.get(path).status_code for path in ("livez", "readyz", "v1/styles")]

    assert [(status, code) for status, code, _ in refused] == [(503, "busy")] * 5
    assert min(seconds for *_, seconds in refused) < 0.1
    assert large.status_code == 503
    assert health == [200, 200, 200]
    assert busy.metric('fastnst_rejected_total{reason="busy"}') == 6


def test_of_a_hundred_at_once_each_is_painted_or_refused(busy):
    picture = encoded(noise(64, 64))

    futures = in_background(*[partial(httpx.post, busy.url + "v1/stylize", content=picture, timeout=60)] * 100)
    statuses = [future.result().status_code for future in futures]

    assert set(statuses) == {200, 503}
    assert len(statuses) == 100
    assert taken(busy) == 0


# 65


def test_who_leaves_while_painted_or_waiting_stops_the_network_and_frees_the_place(busy, png):
    left = busy.metric('fastnst_rejected_total{reason="left"}')

    with occupied(busy, 2):
        begun = time.monotonic()
    freed = time.monotonic() - begun

    assert freed < 5  # all of it takes twenty and more
    until(lambda: not painting(busy))
    assert busy.metric('fastnst_rejected_total{reason="left"}') == left + 2
    assert busy.stylize(png).status_code == 200
    until(lambda: [line["status"] for line in busy.requests()].count(499) >= 2)


def test_who_leaves_before_the_body_has_come_frees_the_place(busy):
    with busy.connect() as connection:
        connection.sendall(post(b"x" * 10, "Content-Length: 1000"))
        until(lambda: taken(busy) == 1)
    until(lambda: taken(busy) == 0)


# 66, 67, 68: what is slow


def test_who_does_not_send_or_does_not_read_is_not_waited_for(busy, png):
    begun = time.monotonic()
    content = encoded(noise(1500, 1500), "JPEG")  # seven megabytes as a PNG, which fit into no buffer
    deaf_request = post(content, f"Content-Length: {len(content)}", "Accept: image/png", target=f"{TARGET}-tiny")
    with ExitStack() as held:
        headers, body, _, deaf = drips = [held.enter_context(busy.connect()) for _ in range(4)]
        headers.sendall(b"GET /livez HTTP/1.1\r\nHost: local")
        body.sendall(post(b"x", "Content-Length: 1000"))
        answers = in_background(*(partial(read_all, drip) for drip in drips[:3]))
        assert busy.stylize(png).status_code == 200
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(deaf_request)
        while not all(answer.done() for answer in answers):
            assert time.monotonic() - begun < 30
            for drip in (headers, body):
                with suppress(OSError):
                    drip.sendall(b"x")
            wait(answers, timeout=0.5)
        assert time.monotonic() - begun > 9
        until(lambda: taken(busy) == 0)
        assert b"IEND" not in read_all(deaf)[-12:]

    assert [answers[0].result(), answers[2].result()] == [b"", b""]
    assert status_of(answers[1].result()) == 408
    assert b"slow_request" in answers[1].result()


def test_a_body_that_is_shorter_than_it_says_is_not_waited_for_when_its_sender_has_ended(busy):
    with busy.connect() as connection:
        connection.sendall(post(b"x", "Content-Length: 1000"))
        connection.shutdown(1)  # writing
        assert read_all(connection) == b""
    until(lambda: taken(busy) == 0)


def test_what_takes_too_long_is_given_up_and_the_next_is_painted(png):
    with serving("--workers", "1", "--deadline", "3s") as server:
        begun = time.monotonic()
        answer = server.stylize(HUGE, style="great-wave-base")
        seconds = time.monotonic() - begun

        assert (answer.status_code, answer.json()["code"]) == (504, "deadline")
        assert seconds < 15
        assert server.stylize(png).status_code == 200
        assert server.metric('fastnst_rejected_total{reason="deadline"}') == 1


def test_a_decoder_that_crashes_takes_nothing_else_with_it(busy, png):
    flat = encoded(np.zeros((7000, 7000), np.uint8))  # half a second to decode
    slow = in_background(partial(busy.stylize, flat, max_size=64))[0]
    (child,) = until(busy.children)
    until(lambda: worked(child) > 5 or slow.done())
    os.kill(child, signal.SIGSEGV)

    answer = slow.result()

    assert (answer.status_code, answer.json()["code"]) == (422, "undecodable_image")
    assert busy.stylize(png).status_code == 200
    assert busy.children() != [child]


def worked(pid: int) -> int:
    """Hundredths of a second that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
