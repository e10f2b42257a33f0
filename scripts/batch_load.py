"""What `fastnst batch` makes of many pictures on this machine: everything painted, nothing twice, how fast, in what.

`check` paints pictures made of those in a folder, some of them damaged, kills two of the processes that paint and then
the one that leads them, goes on, and compares every file and row with what `fastnst stylize` and an undisturbed run
give. `speed` lets both take turns on the same pictures. `overhead` is what Ray takes for blocks without work. Lines of
JSON come out, and a last one with the verdict; exit status 1 if its list `wrong` is not empty.

Usage: .venv/bin/python scripts/batch_load.py check|speed|overhead PHOTOS [--count 2000]
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from cyclopts import App
from PIL import Image

from fastnst.batch.cluster import open_cluster
from fastnst.batch.guardian import belongs
from fastnst.batch.on_ray import OnRay
from fastnst.batch.spec import spec_of
from fastnst.batch.tasks import Contents, Task
from fastnst.config import BatchOptions, ClipOptions, StylizeOptions

FASTNST = (sys.executable, "-m", "fastnst")
SIZES = (96, 128, 192, 256, 384, 512)
SUFFIXES = (".jpg", ".png", ".webp")
RATE = 0.9  # of stylize's, at least
GROWTH = 30_000_000  # bytes that an actor may grow from the first quarter of its pictures on

app = App(help=__doc__)


def make_pictures(photos: Path, folder: Path, count: int, damaged: float = 0.05, seed: int = 0) -> None:
    """Pictures of several sizes and formats in several folders; so many of them damaged in one way after the other."""
    chance = random.Random(seed)
    sources = sorted(path for path in photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    every = max(1, round(1 / damaged)) if damaged else count + 1
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as photo:
            photo.draft("RGB", (1024, 1024))
            size = chance.choice(SIZES)
            picture = photo.convert("RGB")
            picture.thumbnail((size, size))
        path = folder / f"{number % 7}" / f"{number:05}{SUFFIXES[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = BytesIO()
        picture.save(data, {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[path.suffix])
        wrong = number % every == every - 1
        path.write_bytes(damage(data.getvalue(), number // every, chance) if wrong else data.getvalue())


def damage(data: bytes, kind: int, chance: random.Random) -> bytes:
    """Cut off, empty, no picture at all, a byte changed at the beginning, zeros in the middle, or of one pixel."""
    middle = len(data) // 2
    match kind % 6:
        case 0:
            return data[: len(data) * 6 // 10]
        case 1:
            return b""
        case 2:
            return b"this is no picture\n" * 9
        case 3:
            return bytes([data[0] ^ 0xFF]) + data[1:]
        case 4:
            return data[:middle] + bytes(chance.randrange(20, 200)) + data[middle + 200 :]
    tiny = BytesIO()
    Image.new("RGB", (1, 1)).save(tiny, "PNG")
    return tiny.getvalue()


@dataclass
class Run:
    """A command that paints, and when how many were done."""

    process: "subprocess.Popen[bytes]"
    started: float
    done: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0

    def steady(self) -> float:
        """Pictures a second between a tenth and nine tenths of them, without the time that it takes to start."""
        total = self.done[-1][1]
        inner = [(at, count) for at, count in self.done if 0.1 * total <= count <= 0.9 * total]
        (start, before), (end, after) = inner[0], inner[-1]
        return (after - before) / max(end - start, 1e-9)


def stylize(folder: Path, output: Path, *more: str) -> tuple[Run, set[str]]:
    """Paint a folder with `fastnst stylize`; the inputs that failed."""
    command = [*FASTNST, "stylize", str(folder), "-o", str(output), *more]
    started = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        run = Run(process, started)
        assert process.stdout is not None
        for count, _ in enumerate(process.stdout, 1):
            run.done.append((time.monotonic(), count))
        process.wait()
        run.seconds = time.monotonic() - started
        errors.seek(0)
        told = errors.read().decode()
    return run, {line for line in told.splitlines() if line.startswith("fastnst: ") and "painted" not in line}


@contextmanager
def batch(folder: Path, output: Path, *more: str) -> Iterator[Run]:
    """`fastnst batch` while it runs."""
    command = [*FASTNST, "batch", str(folder), "-o", str(output), "--json", "--quiet", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run = Run(process, time.monotonic())
    watching = threading.Thread(target=_watch, args=(run, output), daemon=True)
    watching.start()
    try:
        yield run
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        watching.join()


def _watch(run: Run, output: Path) -> None:
    """Note how many rows there are, as they come."""
    journal = output / "manifest.jsonl.journal"
    while run.process.poll() is None:
        count = rows_in(journal)
        if count and (not run.done or count != run.done[-1][1]):
            run.done.append((time.monotonic(), count))
        time.sleep(0.05)
    run.seconds = time.monotonic() - run.started


def rows_in(journal: Path) -> int:
    """How many inputs a journal speaks of."""
    try:
        return journal.read_bytes().count(b'"status"')
    except OSError:
        return 0


def manifest(output: Path) -> list[dict[str, Any]]:
    """The rows of a manifest without the time they took."""
    rows = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder but for what a batch writes beside pictures."""
    own = ("batch.json", "manifest.jsonl", "manifest.jsonl.journal", ".manifest.jsonl.lock")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in own and not path.name.endswith(".tmp")
    }


def actors(of: int) -> list[int]:
    """The processes that paint for a process that leads them, by its cluster's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                ancestors = _ancestors(int(entry.name))
                found += [int(entry.name)] if of in ancestors else []
    return sorted(found)


def _ancestors(process: int) -> list[int]:
    found: list[int] = []
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(process)
    return found


def memory(process: int) -> int:
    """Bytes of a process that no other one shares, and a share of those that others do."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def until(true: Callable[[], Any], process: "subprocess.Popen[bytes]") -> Any:
    """Wait for something that is to come while a process runs; RuntimeError if that ends before."""
    while not (found := true()):
        if process.poll() is not None:
            said = process.stderr.read().decode() if process.stderr else ""
            raise RuntimeError(f"the batch ended too early, with {process.returncode}: {said}")
        time.sleep(0.05)
    return found


def disturb(folder: Path, output: Path, count: int, *more: str) -> dict[str, Any]:
    """Run a batch, kill two of its actors and then the process that leads it, and run it again to its end."""
    killed: list[str] = []
    with batch(folder, output, *more) as run:
        journal = output / "manifest.jsonl.journal"
        for share in (0.15, 0.35):
            until(lambda share=share: rows_in(journal) >= share * count, run.process)  # type: ignore[misc]
            os.kill(until(lambda: actors(run.process.pid), run.process)[0], signal.SIGKILL)
            killed.append(f"actor at {rows_in(journal)}")
        until(lambda: rows_in(journal) >= 0.6 * count, run.process)
        cluster = cluster_of(run.process.pid)
        run.process.kill()
        killed.append(f"driver at {rows_in(journal)}")
    left = leftovers(cluster)
    with batch(folder, output, *more) as run:
        outcome = json.loads(run.process.communicate()[0])
    return {"killed": killed, "status": run.process.returncode, "left": left, **outcome}


def cluster_of(process: int) -> str:
    """The folder of the cluster that a process leads, which the program that watches over it has as its argument."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
            if any(word.endswith(b"guardian.py") for word in words) and _ancestors(int(entry.name))[:1] == [process]:
                return os.fsdecode(words[-2])
    raise RuntimeError("nobody watches over the cluster")


def leftovers(folder: str, seconds: float = 15) -> list[str]:
    """What is still there of a cluster, so many seconds after its leader was killed: processes, and its folder."""
    end = time.monotonic() + seconds
    while True:
        numbers = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        found = [number for number in numbers if belongs(number, os.fsencode(folder))]
        found += [folder] if Path(folder).exists() else []
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def differences(folder: Path, output: Path, reference: Path, failed: set[str]) -> list[str]:
    """What a batch did otherwise than `fastnst stylize`, whose lines of failures are given."""
    wrong: list[str] = []
    ours, theirs = files(output), files(reference)
    wrong += [f"{name} is missing" for name in theirs.keys() - ours.keys()]
    wrong += [f"{name} is too much" for name in ours.keys() - theirs.keys()]
    wrong += [f"{name} differs" for name in theirs.keys() & ours.keys() if ours[name] != theirs[name]]
    rows = manifest(output)
    inputs = {str(path) for path in folder.rglob("*") if path.is_file()}
    wrong += [f"{name} has no row" for name in inputs - {row["input"] for row in rows}]
    wrong += ["an input has two rows"] if len(rows) != len({row["input"] for row in rows}) else []
    told = {f"fastnst: {row['error']}" for row in rows if row["status"] == "failed"}
    wrong += [f"told otherwise: {line}" for line in told ^ failed]
    return sorted(wrong)


@app.command
def check(photos: Path, *, count: int = 2000, actors: int = 2, style: str = "great-wave") -> int:
    """Every good picture painted as by stylize, every bad one a row, whoever is killed."""
    with _workplace() as place:
        folder, reference, calm, rough = (place / name for name in ("pictures", "reference", "calm", "rough"))
        make_pictures(photos, folder, count)
        _, failed = stylize(folder, reference, "--style", style)
        options = ("--style", style, "--actors", str(actors))
        with batch(folder, calm, *options) as run:
            undisturbed = json.loads(run.process.communicate()[0])
        _tell("undisturbed", undisturbed)
        disturbed = disturb(folder, rough, count, *options)
        _tell("disturbed", disturbed)
        wrong = [f"undisturbed: {one}" for one in differences(folder, calm, reference, failed)]
        wrong += [f"disturbed: {one}" for one in differences(folder, rough, reference, failed)]
        wrong += [f"left behind: {one}" for one in disturbed["left"]]
        if manifest(calm) != manifest(rough):
            wrong.append("the manifests differ")
        return _verdict({"pictures": count, "failed": len(failed)}, wrong)


@app.command
def speed(
    photos: Path, *, count: int = 2000, rounds: int = 3, actors: int = 2, style: str = "great-wave", least: float = RATE
) -> int:
    """Pictures a second of a batch and of stylize, taking turns, and the memory of each actor on the way."""
    with _workplace() as place:
        folder = place / "pictures"
        make_pictures(photos, folder, count)
        rates: list[tuple[float, float]] = []
        whole: list[tuple[float, float]] = []
        wrong: list[str] = []
        for number in range(rounds):
            plain, _ = stylize(folder, place / "plain", "--style", style, "--quiet")
            with (
                batch(folder, place / "batch", "--style", style, "--actors", str(actors)) as run,
                _sampled(run) as samples,
            ):
                run.process.wait()
            rates.append((run.steady(), plain.steady()))
            whole.append((count / run.seconds, count / plain.seconds))
            grown = growth(samples)
            _tell(
                f"round {number + 1}",
                {
                    "batch": round(run.steady(), 2),
                    "stylize": round(plain.steady(), 2),
                    "with start: batch": round(count / run.seconds, 2),
                    "with start: stylize": round(count / plain.seconds, 2),
                    "start": round(run.done[0][0] - run.started, 1),
                    "memory": course(samples),
                    "growth": grown,
                },
            )
            wrong += [f"actor {actor} grew by {more / 1e6:.0f} MB" for actor, more in grown.items() if more > GROWTH]
            for name in ("plain", "batch"):
                shutil.rmtree(place / name)
        ratio = median(ours / theirs for ours, theirs in rates)
        if ratio < least:
            wrong.append(f"a batch has {ratio:.2f} of the rate of stylize")
        numbers = {
            "batch": round(median(ours for ours, _ in rates), 2),
            "stylize": round(median(theirs for _, theirs in rates), 2),
            "ratio": round(ratio, 3),
            "ratio with start": round(median(ours / theirs for ours, theirs in whole), 3),
        }
        return _verdict(numbers, wrong)


@app.command
def overhead(*, count: int = 1000, rounds: int = 3) -> int:
    """What Ray takes for a block of pictures beside the work: blocks without any, on one actor."""
    spec = spec_of("unused", ["great-wave-tiny"], StylizeOptions(), ClipOptions(), "files")
    options = BatchOptions(actors=1)
    taken: list[float] = []
    with open_cluster(options, wants_gpu=False) as cluster:
        engine = OnRay(cluster, spec.carried(1, 0), "overhead")
        for number in range(rounds):
            tasks = [Task(number * count + one, Contents(())) for one in range(count)]
            ends = [time.monotonic() for _ in engine.paint(tasks)]
            inner = ends[count // 10 : -count // 10]
            taken.append(1000 * (inner[-1] - inner[0]) / (len(inner) - 1))
            _tell(f"round {number + 1}", {"milliseconds for a block": round(taken[-1], 3)})
    whole = median(taken)
    for_one = round(whole / options.block_size, 3)
    return _verdict({"milliseconds for a block": round(whole, 3), "for each of its 16 pictures": for_one}, [])


@contextmanager
def _sampled(run: Run) -> Iterator[list[tuple[int, int, int]]]:
    """Memory of the actors of a run while it goes: (pictures done, process, bytes)."""
    samples: list[tuple[int, int, int]] = []

    def sample() -> None:
        while run.process.poll() is None:
            done = run.done[-1][1] if run.done else 0
            samples.extend((done, process, memory(process)) for process in actors(run.process.pid) if done)
            time.sleep(1)

    watching = threading.Thread(target=sample, daemon=True)
    watching.start()
    yield samples
    watching.join()


def growth(samples: Sequence[tuple[int, int, int]]) -> dict[int, int]:
    """By how many bytes each actor grew from the second to the last quarter of the pictures, in the middle of each."""
    total = max((done for done, _, _ in samples), default=0)
    grown: dict[int, int] = {}
    for process in {process for _, process, _ in samples}:
        early = [size for done, one, size in samples if one == process and 0.25 * total <= done < 0.5 * total]
        late = [size for done, one, size in samples if one == process and done >= 0.75 * total]
        if early and late:
            grown[process] = round(median(late) - median(early))
    return grown


def course(samples: Sequence[tuple[int, int, int]], steps: int = 8) -> dict[int, int]:
    """Pictures done -> megabytes of an actor then, the mean of all."""
    total = max((done for done, _, _ in samples), default=0)
    course: dict[int, int] = {}
    for step in range(steps):
        low, high = total * step / steps, total * (step + 1) / steps
        sizes = [size for done, _, size in samples if low < done <= high and size]
        if sizes:
            course[round(high)] = round(sum(sizes) / len(sizes) / 1e6)
    return course


@contextmanager
def _workplace() -> Iterator[Path]:
    with ExitStack() as stack:
        yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastnst-load.")))


def _tell(what: str, numbers: dict[str, Any]) -> None:
    print(json.dumps({"what": what, **numbers}), flush=True)


def _verdict(numbers: dict[str, Any], wrong: list[str]) -> int:
    _tell("verdict", {**numbers, "wrong": wrong[:50]})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
