"""scripts/serve_load.py in short, and that it finds what is wrong; what is left of a service that is killed."""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.material import ROOT
from helpers.photos import noise
from helpers.picture_files import encoded
from helpers.servers import Server, descendants, post, serving, until

sys.path.append(str(ROOT / "scripts"))
import serve_load
from serve_load import Answer, Request, Soak, Tally, Target, at_once, judge_burst, miscounted, service

from fastnst.serve.bound import memory_bound

TARGET = Target(workers=1, queue=4, max_pixels=250_000, max_bytes=1 << 20)

# Keeps memory, a file and a thread of each painting.
LEAKING = """
import threading
from fastnst.cli import run
from fastnst.serve.service import Painting

kept, make = [], Painting.make

def leaking(painting):
    kept.extend([b"x" * (64 << 20), open("/dev/null")])
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return make(painting)

Painting.make = leaking
run()
"""


def soaked(running, seconds, target=TARGET):
    told = []
    soaking = Soak(running, target, every=1)
    return asyncio.run(soaking.run(seconds, 4, told.append)), told


@pytest.fixture(scope="module")
def running():
    with service(TARGET) as one:
        yield one


def test_of_many_at_once_each_is_painted_or_told_when_to_come_again_within_the_bound(running):
    picture = encoded(noise(500, 500), "JPEG")

    answers, peak = asyncio.run(at_once(running, Request("burst", serve_load.post(picture)), 60))

    found = judge_burst(answers, 60)
    assert found["wrong"] == []
    assert found["statuses"].total() == 60
    assert found["statuses"][200] >= 5
    assert found["statuses"][503] > 0
    # The system counts a process's memory in batches of pages, the most of it and that of now at different times.
    assert 100 < peak <= serve_load.most_memory(running.pid) + 1 < memory_bound(TARGET.limits).total / 2**20


def test_every_kind_of_request_is_answered_as_it_must_be_and_counted(running):
    requests = serve_load.bad_requests(TARGET.limits) + serve_load.limit_requests(TARGET.limits)
    tally, soaking = Tally(), Soak(running, TARGET, every=1)

    async def send():
        before = serve_load.by_status(await serve_load.metrics(running.url))
        for request in requests:
            tally.add(request, await serve_load.exchange(running.url, request))
        return before, serve_load.by_status(await soaking.settled())

    counters = asyncio.run(send())

    assert tally.wrong == {}
    assert len(tally.sent) == len(requests)
    assert miscounted(tally, *counters) == []


def test_a_short_soak_finds_nothing_wrong_but_that_it_was_short(running):
    found, samples = soaked(running, 0)

    assert set(found["wrong"]) <= {"memory, threads or files grow"}
    assert found["statuses"][200] > 0
    assert found["files"] == 0
    assert len(samples) >= 3
    assert found["peak"] < found["bound"]


def test_a_service_that_leaks_is_found():
    with service(TARGET, ("-c", LEAKING)) as leaking:
        found, samples = soaked(leaking, 0)

    assert found["wrong"] == ["memory, threads or files grow"]
    assert not found["flat"]
    assert found["growth"] > 100
    assert found["mebibytes_a_minute"] > 1
    assert found["threads"] > 0
    assert found["files"] > 0
    assert len(samples) >= 3


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answer(200, {}, b"", 1, 1), Answer(503, {"retry-after": "7"}, b"", 0, 0)], None),
        ([Answer(200, {}, b"", 1, 1), None], "1 are lost"),
        ([Answer(200, {}, b"", 1, 1), Answer(503, {"retry-after": "soon"}, b"", 0, 0)], "503 without Retry-After"),
        ([Answer(200, {}, b"", 1, 1), Answer(500, {}, b'{"detail": "trouble"}', 0, 0)], "500 trouble"),
    ],
)
def test_what_is_wrong_with_answers_to_many_at_once_is_found(answers, words):
    assert judge_burst(answers, 2)["wrong"] == ([] if words is None else [words])


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({200: 5, 422: 1, 499: 2}, []),
        ({200: 6, 422: 1, 499: 1}, []),
        ({200: 5, 422: 1, 499: 1}, ["4 requests are counted of 5 that were sent"]),
        ({200: 4, 422: 1, 499: 3}, ["1 answers 200 are not counted"]),
    ],
)
def test_counters_that_do_not_agree_are_found(after, words):
    tally = Tally()
    for status, request in [(200, Request("good", b"")), (200, Request("good", b"")), (422, Request("cut", b""))]:
        tally.add(request._replace(expected=frozenset({status})), Answer(status, {}, b"", 0, 0))
    for _ in range(2):
        tally.add(Request("leaves_waiting", b"", leaves=(1, 0)), None)

    assert tally.wrong == {}
    assert miscounted(tally, Counter({200: 3}), Counter(after)) == words


def test_answers_that_must_not_be_are_found():
    tally = Tally()

    tally.add(Request("good", b""), Answer(500, {}, b"trouble", 0, 0))
    tally.add(Request("good", b""), None)
    tally.add(Request("good", b""), Answer(503, {}, b"", 0, 0))

    assert set(tally.wrong) == {"good: 500 b'trouble'", "good: no answer", "good: 503 without Retry-After"}


def test_killed_in_the_middle_of_its_work_a_service_leaves_nothing_behind(tmp_path, monkeypatch, png):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    shared = set(os.listdir("/dev/shm"))
    huge = encoded(noise(1900, 1900), "JPEG")
    server = Server("--workers", "2").ready()
    assert server.stylize(png).status_code == 200
    started = descendants(server.process.pid)
    hanging = server.children()[0]
    with server.connect() as connection:
        connection.sendall(post(huge, f"Content-Length: {len(huge)}", target="/v1/stylize?style=great-wave-base"))
        until(lambda: server.metric("fastnst_inflight") == 1)
        os.kill(hanging, signal.SIGSTOP)
        server.signal(signal.SIGKILL)
        server.end()

    assert len(started) >= 4
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert set(os.listdir("/dev/shm")) <= shared
    with serving("--workers", "1", port=server.port) as again:
        assert again.port == server.port
        assert again.stylize(png).status_code == 200
    until(lambda: not [*tmp_path.iterdir()])
