"""What `fastnst serve` makes of many requests: a hundred at once, its rate, half an hour of good and bad ones.

Each command starts a service of its own, or takes the one at `--url`, whose process is `--pid`; there the limits must
be given as that one has them. Memory, threads and open files are those of the process and all that it started. Lines
of JSON come out, and a last one with the verdict; exit status 1 if its list `wrong` is not empty.

Usage: .venv/bin/python scripts/serve_load.py burst|throughput|soak [--minutes 30]
"""

import asyncio
import json
import logging
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import combinations, count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from cyclopts import App, Parameter
from PIL import Image
from soak import PHOTOS, Sample, verdict

from fastnst import Stylizer
from fastnst.config import ServeLimits, StylizeOptions
from fastnst.image import decode_picture, encode_picture
from fastnst.serve.bound import memory_bound

STYLES = ("great-wave", "great-wave-tiny", "poppies", "night-cafe", "harvest", "cafe-terrace")
PATIENCE = 120  # seconds for any answer
FEWEST = 3  # samples that a verdict needs
REFUSED_IN = 0.1  # seconds
RATE, OVERHEAD = 0.9, 0.015  # of the bare engine's; seconds


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Target:
    """The service, and its limits."""

    url: str | None = None
    pid: int | None = None
    workers: int = 2
    queue: int = 8
    max_pixels: int = 1_000_000
    max_bytes: int = 2 << 20

    @property
    def limits(self) -> ServeLimits:
        return ServeLimits(
            workers=self.workers, queue=self.queue, max_pixels=self.max_pixels, max_bytes=self.max_bytes, deadline=300
        )


@dataclass
class Service:
    """One that runs: where, its process, the file with what it says."""

    url: str
    pid: int | None
    log: Path | None = None

    def lines(self) -> list[dict[str, Any]]:
        """Its log, a line for each request."""
        text = self.log.read_text() if self.log is not None else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Request(NamedTuple):
    """Bytes to send, and what may come back."""

    kind: str
    data: bytes
    expected: frozenset[int] = frozenset({200})
    counted: bool = True  # in the metrics of the address; what is no HTTP is not
    leaves: tuple[float, float] | None = None  # after this share of it is sent, so many seconds later


class Answer(NamedTuple):
    """What came back; seconds from the first byte sent to the first and to the last that came."""

    status: int
    headers: dict[str, str]
    body: bytes
    first: float
    last: float

    def told(self) -> str:
        """Its status, and what went wrong."""
        with suppress(ValueError):
            return f"{self.status} {json.loads(self.body)['detail']}"
        return f"{self.status} {self.body[:80]!r}"


@contextmanager
def service(target: Target, command: Sequence[str] = ("-m", "fastnst")) -> Iterator[Service]:
    """The one that is there, or one that is ended afterwards."""
    if target.url is not None:
        yield Service(target.url, target.pid)
        return
    limits = target.limits
    names = ("workers", "queue", "max_pixels", "max_bytes", "deadline")
    flags = [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(limits, name)))]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stream:
            words = [sys.executable, *command, "serve", "--port", "0", *flags]
            process = subprocess.Popen(words, stderr=stream)
        try:
            for _ in count():
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                if (said := re.search(r"listening on (\S+)", log.read_text())) and "fastnst: ready" in log.read_text():
                    break
                time.sleep(0.05)
            yield Service(said[1], process.pid, log)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def tree(pid: int) -> list[int]:
    """A process, those that it started, and those that they started."""
    children = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(one for child in children for one in tree(child))]


def status_of(pid: int) -> dict[str, int]:
    """The numbers in its /proc/PID/status, memory in KiB, with its open files; nothing for one that has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        files = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return {}
    return {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)(?: kB)?$", text, re.M)} | {"files": files}


def sample(pid: int, started: float) -> Sample:
    """What all processes have now."""
    found = [status_of(one) for one in tree(pid)]
    resident, threads, files = (sum(one.get(name, 0) for one in found) for name in ("VmRSS", "Threads", "files"))
    return Sample(time.monotonic() - started, resident / 1024, threads, files)


def most_memory(pid: int) -> float:
    """MiB: the most that each process ever had, of all together; they need not have had it at once."""
    return sum(status_of(one).get("VmHWM", 0) for one in tree(pid)) / 1024


async def peak_while(pid: int | None, ended: asyncio.Event) -> float:
    """MiB: the most that all processes had together, looked at five times a second."""
    most = 0.0
    while pid is not None and not ended.is_set():
        most = max(most, sample(pid, 0).mebibytes)
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.2)
    return most


async def exchange(url: str, request: Request, go: asyncio.Event | None = None) -> Answer | None:
    """Send a request on a connection of its own; None if the sender leaves, or nothing comes back."""
    address = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except OSError:
        return None
    try:
        if go is not None:
            await go.wait()
        async with asyncio.timeout(PATIENCE):
            return await _exchanged(reader, writer, request)
    except (OSError, EOFError, TimeoutError):
        return None
    finally:
        writer.transport.abort()


async def _exchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> Answer | None:
    begun = time.monotonic()
    share, seconds = request.leaves or (1, 0)
    writer.write(request.data[: int(len(request.data) * share)])
    if request.leaves is not None:
        with suppress(OSError):
            await writer.drain()
            await asyncio.sleep(seconds)
            writer.close()
        return None
    with suppress(OSError):  # one that is refused may find that nobody reads the rest
        await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    first = time.monotonic() - begun
    status, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else b""
    return Answer(int(status.split()[1]), headers, body, first, time.monotonic() - begun)


def post(body: bytes, query: str = "", *headers: str, method: str = "POST", length: bool = True) -> bytes:
    """A request to paint."""
    lines = [f"{method} /v1/stylize?{query} HTTP/1.1", "Connection: close", *headers]
    if not any(line.startswith("Host:") for line in lines):
        lines.append("Host: localhost")
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def form(*parts: tuple[str, bytes]) -> bytes:
    """The same, as a form."""
    body = b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in parts
    )
    return post(body + b"--edge--\r\n", "", "Content-Type: multipart/form-data; boundary=edge")


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def photo(width: int, height: int) -> Image.Image:
    with Image.open(PHOTOS / "owl.jpg") as image:
        return image.convert("RGB").resize((width, height))


def good_requests() -> list[Request]:
    """Pictures of several kinds and sizes, with every option."""
    made = []
    for number, path in enumerate(sorted(PHOTOS.glob("*.jpg"))[:12]):
        with Image.open(path) as image:
            picture = image.convert("RGB").resize((120 + 37 * number, 90 + 29 * number))
        data = encoded(picture, ["JPEG", "PNG", "WEBP", "GIF"][number % 4])
        accept = ["*/*", "image/png", "image/webp;q=0.9", "image/jpeg"][number // 3]
        for query in ["", f"style={STYLES[number % len(STYLES)]}", "strength=0.5", "max_size=160", "quality=50"]:
            made.append(post(data, query, f"Accept: {accept}"))
        made += [post(data, f"preserve_color={how}") for how in ("luma", "histogram")]
        made.append(post(data, "style=great-wave-base&max_size=200"))
        mask = encoded(Image.linear_gradient("L").resize(picture.size), "PNG")
        made.append(form(("image", data), ("mask", mask), ("background", b"photo"), ("feather", b"4")))
        clear = picture.copy()
        clear.putalpha(Image.linear_gradient("L").resize(picture.size))
        made.append(post(encoded(clear, "PNG"), "style=great-wave-tiny", "Accept: image/webp"))
    small = encoded(photo(160, 120))
    fast = [style for style in STYLES if "-tiny" not in style]
    made += [post(small, f"style={','.join(pair)}&mix=0.7,0.3") for pair in combinations(fast, 2)]
    return [Request("good", data) for data in made]


def bad_requests(limits: ServeLimits) -> list[Request]:
    """Everything that is refused, each for its own reason."""
    picture = encoded(photo(160, 120))
    png = encoded(photo(160, 120), "PNG")
    broken = bytes(byte ^ 0x55 if at > 700 and at % 97 == 0 else byte for at, byte in enumerate(picture))
    kinds: dict[str, tuple[bytes, set[int]]] = {
        "text": (post(b"not a picture" * 99), {415}),
        "empty": (post(b""), {415, 422}),
        "cut": (post(picture[: len(picture) // 2]), {422}),
        "cut_png": (post(png[: len(png) // 2]), {422}),
        "broken": (post(broken), {200, 422}),
        "bomb": (post(_bomb()), {422}),
        "tiny": (post(encoded(noise(3, 3), "PNG")), {200, 422}),
        "unknown_parameter": (post(picture, "colour=red"), {400}),
        "out_of_range": (post(picture, "strength=7"), {422}),
        "no_number": (post(picture, "strength=nan&max_size=1e3"), {422}),
        "unknown_style": (post(picture, "style=../../etc/passwd"), {404}),
        "no_mixture": (post(picture, "style=great-wave,great-wave-tiny&mix=1,1"), {422}),
        "not_acceptable": (post(picture, "", "Accept: text/html"), {406}),
        "html": (post(picture, "", "Content-Type: text/html"), {415}),
        "foreign": (post(picture, "", "Origin: https://elsewhere.example"), {403}),
        "other_host": (post(picture, "", "Host: elsewhere.example"), {400}),
        "get": (post(b"", method="GET"), {405}),
        "no_image": (form(("style", b"poppies")), {422}),
        "image_twice": (form(("image", picture), ("image", picture)), {422}),
        "no_mask": (form(("image", picture), ("mask", b"not a picture")), {415, 422}),
        "cut_form": (form(("image", picture)).replace(b"--edge--\r\n", b"-" * 10), {400}),
        "no_edge": (post(picture, "", "Content-Type: multipart/form-data"), {400}),
        "too_long": (post(bytes(limits.max_bytes + 1)), {413}),
        "two_lengths": (post(picture, "", "Transfer-Encoding: chunked"), {400}),
    }
    made = [Request(kind, data, frozenset(expected)) for kind, (data, expected) in kinds.items()]
    return [*made, Request("no_http", b"\x16\x03\x01\x02\0\x01\0\r\n\r\n" * 9, frozenset({400}), counted=False)]


def limit_requests(limits: ServeLimits) -> list[Request]:
    """What is just allowed, and just not."""
    width = 1000
    height = limits.max_pixels // width
    clear = noise(width, height, 4)
    largest = encoded(photo(width, height))
    full = encoded(noise(200, 200)) + bytes(limits.max_bytes)
    small = encoded(photo(64, 48))
    allowed = {
        "pixels": post(largest),
        "pixels_clear": post(encoded(clear.convert("RGBA"), "WEBP", quality=1), "quality=100", "Accept: image/webp"),
        "pixels_png": post(encoded(noise(width, height), "JPEG", quality=30), "", "Accept: image/png"),
        "pixels_base": post(largest, "style=great-wave-base"),
        "bytes": post(full[: limits.max_bytes]),
        "side": post(encoded(photo(min(16_384, limits.max_pixels // 16), 16))),
        "parts": form(("image", small), *[("style", b"poppies")] * 8),
        "parameters": post(small, "&".join(["style=poppies"] * 8)),
        "headers": post(small, "", *[f"X-Long-{number}: {'x' * 1000}" for number in range(28)]),
    }
    refused = {
        "pixels_more": (post(encoded(photo(width, height + 1))), {422}),
        "bytes_more": (post(full[: limits.max_bytes + 1]), {413}),
        "parameters_more": (post(small, "&".join(["style=poppies"] * 65)), {400}),
        "field_more": (form(("image", small), ("style", b"x" * 4097)), {400}),
        "headers_more": (post(small, "", f"X-Long: {'x' * 600_000}"), {400}),
    }
    made = [Request(kind, data) for kind, data in allowed.items() if not kind.startswith("par")]
    made += [Request(kind, allowed[kind], frozenset({200, 422})) for kind in ("parts", "parameters")]
    made += [Request(kind, data, frozenset(s), "headers" not in kind) for kind, (data, s) in refused.items()]
    return made


def leaving_request(chance: random.Random, painted: Sequence[Request]) -> Request:
    """One whose sender goes: while it sends, waits, is painted, or is answered."""
    data = chance.choice(painted).data
    if chance.random() < 0.4:
        head = (data.index(b"\r\n\r\n") + 4) / len(data)
        share = head + (1 - head) * chance.uniform(0.01, 0.95)
        return Request("leaves_sending", data, leaves=(share, chance.uniform(0, 0.3)))
    return Request("leaves_waiting", data, leaves=(1, chance.uniform(0, 2.5)))


def _bomb() -> bytes:
    """A PNG that says it has 50,000 x 50,000 pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


async def metrics(url: str) -> dict[str, float]:
    """The samples of /metrics by their names."""
    answer = await exchange(
        url, Request("metrics", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    )
    if answer is None:
        return {}
    lines = [line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def by_status(found: dict[str, float]) -> Counter[int]:
    """How many requests to paint were answered, by status."""
    pattern = re.compile(r'fastnst_requests_total\{code="(\d+)",route="/v1/stylize"\}')
    return Counter({int(match[1]): int(value) for name, value in found.items() if (match := pattern.fullmatch(name))})


@dataclass
class Tally:
    """What was sent and came back."""

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)  # of those that are counted, too
    counted: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, request: Request, answer: Answer | None) -> None:
        self.sent[request.kind] += 1
        self.counted += request.counted
        if request.leaves is not None:
            return
        if answer is None:
            if request.counted:  # of what is no HTTP the end of the connection may overtake the answer
                self.wrong[f"{request.kind}: no answer"] += 1
            return
        self.statuses[answer.status] += request.counted
        if answer.status == 503 and request.counted:
            if not re.fullmatch(r"[1-9]\d*", answer.headers.get("retry-after", "")):
                self.wrong[f"{request.kind}: 503 without Retry-After"] += 1
        elif answer.status not in request.expected:
            self.wrong[f"{request.kind}: {answer.told()}"] += 1


def miscounted(tally: Tally, before: Counter[int], after: Counter[int]) -> list[str]:
    """How the counters differ from what was sent: those that left may have any status, all others theirs."""
    counted = Counter(after)
    counted.subtract(before)
    leaving = sum(sent for kind, sent in tally.sent.items() if kind.startswith("leaves"))
    more = Counter(counted)
    more.subtract(tally.statuses)
    wrong = [f"{-number} answers {status} are not counted" for status, number in more.items() if number < 0]
    if sum(more.values()) != leaving:
        wrong.append(f"{sum(counted.values())} requests are counted of {tally.counted} that were sent")
    return wrong


@dataclass
class Soak:
    """Clients that send at random, and samples between rounds, when nothing is at work."""

    running: Service
    target: Target
    every: float
    seed: int = 0
    tally: Tally = field(default_factory=Tally)
    samples: list[Sample] = field(default_factory=list)
    peak: float = 0.0

    def __post_init__(self) -> None:
        self.processes = len(tree(self.running.pid)) if self.running.pid is not None else 0

    async def run(self, seconds: float, clients: int, tell: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The verdict."""
        limits, chance = self.target.limits, random.Random(self.seed)
        self.good, self.bad, self.limits = good_requests(), bad_requests(limits), limit_requests(limits)
        before, started = by_status(await self.settled()), time.monotonic()
        for turn in count():
            if turn >= FEWEST and time.monotonic() - started >= seconds:
                break
            ended, until = asyncio.Event(), time.monotonic() + self.every
            peak = asyncio.create_task(peak_while(self.running.pid, ended))
            await asyncio.gather(*(self.client(chance, until) for _ in range(clients)))
            ended.set()
            self.peak = max(self.peak, await peak)
            found = await self.settled()
            if self.running.pid is not None:
                self.samples.append(sample(self.running.pid, started))
                tell({**self.samples[-1]._asdict(), "peak": round(self.peak), "sent": self.tally.sent.total()})
        return self.judged(before, found)

    async def client(self, chance: random.Random, until: float) -> None:
        while time.monotonic() < until:
            request = self.choose(chance)
            self.tally.add(request, await exchange(self.running.url, request))

    def choose(self, chance: random.Random) -> Request:
        """60 % good, 20 % bad, 10 % at the limits, 10 % whose sender leaves."""
        share = chance.random()
        if share < 0.1:
            return leaving_request(chance, [*self.good, *self.limits[:4] * 20])
        return chance.choice(self.limits if share < 0.2 else self.bad if share < 0.4 else self.good)

    async def settled(self) -> dict[str, float]:
        """The metrics once nothing is at work, and processes, threads and files stay as they are; after 15 s anyway."""
        seen: list[object] = []
        for _ in range(100):
            found = await metrics(self.running.url)
            await asyncio.sleep(0.1)
            idle = found.get("fastnst_queue_depth") == found.get("fastnst_inflight") == 0
            pid, whole = self.running.pid, True
            if pid is not None:
                whole = len(tree(pid)) == self.processes
                seen = [*seen[-4:], sample(pid, 0)[2:]]
            if idle and whole and len(seen) in (0, 5) and len(set(seen)) < 2:
                break
        return found

    def judged(self, before: Counter[int], found: dict[str, float]) -> dict[str, Any]:
        """What is wrong with all of it."""
        tally = self.tally
        wrong = [f"{number} x {text}" for text, number in tally.wrong.most_common()]
        gauges = ("fastnst_queue_depth", "fastnst_inflight")
        wrong += [f"{name} is {found.get(name)}" for name in gauges if found.get(name) != 0]
        wrong += miscounted(tally, before, by_status(found))
        result: dict[str, Any] = {"sent": tally.sent, "statuses": tally.statuses}
        if self.samples:
            growth = verdict(self.samples)
            result |= growth | {"bound": memory_bound(self.target.limits).total / 2**20, "peak": self.peak}
            if not growth["flat"]:
                wrong.append("memory, threads or files grow")
            if self.peak > result["bound"]:
                wrong.append("more memory than the bound")
            if (processes := len(tree(self.running.pid or 0))) != self.processes:
                wrong.append(f"{processes} processes instead of {self.processes}")
        return result | {"wrong": wrong}


async def at_once(running: Service, request: Request, number: int) -> tuple[list[Answer | None], float]:
    """Answers to so many at the same time, on connections that are open already; the peak of memory meanwhile, MiB."""
    go, ended = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(exchange(running.url, request, go)) for _ in range(number)]
    peak = asyncio.create_task(peak_while(running.pid, ended))
    await asyncio.sleep(0.5)
    go.set()
    answers = await asyncio.gather(*tasks)
    ended.set()
    return answers, await peak


def judge_burst(answers: Sequence[Answer | None], number: int) -> dict[str, Any]:
    """How many of which status, how fast those that are refused were, and what is wrong."""
    there = [answer for answer in answers if answer is not None]
    refused = [answer for answer in there if answer.status == 503]
    wrong = [f"{number - len(there)} are lost"] if len(there) < number else []
    wrong += [answer.told() for answer in there if answer.status not in (200, 503)]
    if any(not re.fullmatch(r"[1-9]\d*", answer.headers.get("retry-after", "")) for answer in refused):
        wrong.append("503 without Retry-After")
    slow = sorted(round(1000 * answer.first, 1) for answer in refused)
    return {
        "statuses": Counter(answer.status for answer in there),
        "refused_ms": {"median": median(slow or [0]), "most": max(slow, default=0)},
        "late": sum(answer.first > REFUSED_IN for answer in refused),
        "wrong": wrong,
    }


app = App(name="serve_load.py", version_flags=[])


@app.command
def burst(*, requests: int = 100, repeat: int = 5, strict: bool = False, target: Target = Target()) -> int:
    """So many at once: small pictures several times, then the largest ones.

    `--strict`, for a machine that does nothing else: no refusal may take longer than 0.1 s, else only half of them.
    """
    limits = target.limits
    bound = memory_bound(limits).total / 2**20
    width = int((limits.max_pixels * 4 / 3) ** 0.5)
    heavy = encoded(noise(width, limits.max_pixels // width), "JPEG", quality=85)[: limits.max_bytes]
    wrong, medians = [], []
    with service(target) as running:
        asyncio.run(exchange(running.url, Request("first", post(heavy))))
        for turn in range(repeat + 1):
            picture = heavy if turn == repeat else encoded(photo(256, 192))
            answers, peak = asyncio.run(at_once(running, Request("burst", post(picture)), requests))
            found = judge_burst(answers, requests)
            most = most_memory(running.pid) if running.pid is not None else 0
            memory = {"peak": round(peak), "most": round(most), "bound": round(bound)}
            inside = [1000 * line["seconds"] for line in running.lines()[-requests:] if line["status"] == 503]
            found["refused_ms"]["in_the_service"] = max(inside, default=0)
            print(json.dumps({"bytes": len(picture)} | found | memory), flush=True)
            wrong += found["wrong"] + (["more memory than the bound"] if most > bound else [])
            if strict and found["late"]:
                wrong.append(f"{found['late']} were refused late")
            medians.append(found["refused_ms"]["median"])
    if median(medians) > 1000 * REFUSED_IN:
        wrong.append("half of the refusals are late")
    print(json.dumps({"refused_ms": median(medians), "wrong": wrong}))
    return 1 if wrong else 0


@app.command
def throughput(
    *,
    side: int = 1024,
    clients: int = 4,
    rounds: int = 5,
    each: int = 2,
    small: int = 30,
    target: Target = Target(max_pixels=50_000_000, max_bytes=20 << 20),
) -> int:
    """Paintings a second of several clients, against the network alone; and what a small one takes besides its parts.

    The network alone: `Stylizer.stylize_picture` in this process, one at a time on a picture that is decoded already,
    without encoding; `whole` is the same with decoding and encoding. Clients send a JPEG and take a JPEG,
    each its next one as soon as it has the last. They take turns, `rounds` times, the order changing.
    """
    logging.disable(logging.CRITICAL)
    stylizer, options = Stylizer.open(), StylizeOptions()
    data = encoded(photo(side, side), quality=92)
    picture = decode_picture(data)
    with service(target) as running:

        def bare() -> float:
            begun = time.monotonic()
            for _ in range(clients * each):
                stylizer.stylize_picture(picture, options)
            return clients * each / (time.monotonic() - begun)

        def whole() -> float:
            begun = time.monotonic()
            for _ in range(clients * each):
                encode_picture(stylizer.stylize_picture(decode_picture(data), options), "JPEG")
            return clients * each / (time.monotonic() - begun)

        async def client() -> None:
            for _ in range(each):
                answer = await exchange(running.url, Request("paint", post(data)))
                if answer is None or answer.status != 200:
                    raise SystemExit(f"no painting: {answer}")

        async def all_clients() -> float:
            begun = time.monotonic()
            await asyncio.gather(*(client() for _ in range(clients)))
            return clients * each / (time.monotonic() - begun)

        bare(), asyncio.run(all_clients())
        turns: dict[str, Callable[[], float]] = {
            "bare": bare,
            "service": lambda: asyncio.run(all_clients()),
            "whole": whole,
        }
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for turn in range(rounds):
            for name in turns if turn % 2 == 0 else reversed(turns):
                rates[name].append(turns[name]())
            print(json.dumps({name: round(values[-1], 3) for name, values in rates.items()}), flush=True)
        overhead = _overhead(running, stylizer, small)
    ratios = [served / alone for served, alone in zip(rates["service"], rates["bare"], strict=True)]
    found = {name: round(median(values), 3) for name, values in rates.items()}
    found |= {"ratio": round(median(ratios), 3), "ratios": [round(ratio, 3) for ratio in ratios], **overhead}
    wrong = [] if found["ratio"] >= RATE else [f"less than {RATE} of the network alone"]
    if overhead["overhead_ms"] > 1000 * OVERHEAD:
        wrong.append(f"more than {1000 * OVERHEAD} ms besides its parts")
    print(json.dumps(found | {"wrong": wrong}))
    return 1 if wrong else 0


def _overhead(running: Service, stylizer: Stylizer, number: int) -> dict[str, float]:
    """Milliseconds, medians: of a request for 512x512 on its own, and without decode, paint and encode.

    Those are what Server-Timing says, with the way to the decoder and back in `decode` and `encode`; `over_bare_ms` is
    without them as they take here in one process, paired one by one.
    """
    data, options = encoded(photo(512, 512), quality=92), StylizeOptions()
    whole, overhead, over_bare = [], [], []
    for _ in range(number):
        answer = asyncio.run(exchange(running.url, Request("small", post(data))))
        if answer is None or answer.status != 200:
            raise SystemExit(f"no painting: {answer}")
        timing = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])}
        begun = time.monotonic()
        encode_picture(stylizer.stylize_picture(decode_picture(data), options), "JPEG")
        bare = 1000 * (time.monotonic() - begun)
        whole.append(1000 * answer.last)
        overhead.append(whole[-1] - timing["decode"] - timing["paint"] - timing["encode"])
        over_bare.append(whole[-1] - bare)
    names = ("request_ms", "overhead_ms", "over_bare_ms")
    return {name: round(median(times), 1) for name, times in zip(names, (whole, overhead, over_bare), strict=True)}


@app.command
def soak(*, minutes: float = 30, every: float = 20, clients: int = 6, seed: int = 0, target: Target = Target()) -> int:
    """For that long: 60 % good requests, 20 % bad, 10 % at the limits, 10 % whose senders leave, in a random order."""
    with service(target) as running:
        soaking = Soak(running, target, every, seed)
        found = asyncio.run(soaking.run(60 * minutes, clients, lambda line: print(json.dumps(line), flush=True)))
        traces = [line for line in running.lines() if line["status"] == 500]
    print(json.dumps(found | {"errors": traces[:3]}))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(app())
