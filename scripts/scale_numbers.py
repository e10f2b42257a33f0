"""What a picture costs on one core of this machine, and what millions of them come to: the tables of docs/scale.md.

Decoding, painting, encoding and storing of photographs are timed one by one, and all of it at once as `fastnst stylize`
does a folder, taking turns, on one core. Times are the processor's: waiting for a disk or a network costs no core, and
others on the machine change little. The rest is arithmetic, which docs/scale.md spells out.

Usage: .venv/bin/python scripts/scale_numbers.py --rounds 7 --page docs/scale.md
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

from cyclopts import App, Parameter
from PIL import Image, ImageOps

from fastnst import Stylizer
from fastnst.config import StylizeOptions
from fastnst.config.ranges import Checked, Range
from fastnst.files import write_bytes
from fastnst.folder import Job, run
from fastnst.image import decode_picture, encode_picture
from fastnst.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("decode", "paint", "encode", "store")
COUNTS = (10**7, 10**8, 10**9)

Times = Mapping[str, Sequence[float]]  # processor seconds a picture in each round, by stage and for all at once


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """What is timed, and the prices."""

    style: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = (
        "great-wave-base",
        "great-wave",
        "great-wave-tiny",
    )
    """bundled styles or .onnx files: one of each preset"""
    size: Annotated[tuple[int, ...], Parameter(negative=(), consume_multiple=True), Range(16, 16_384)] = (512, 1024)
    """sides of the square photographs, pixels"""
    content: Path = ROOT / "examples" / "photos"
    """folder of JPEG photographs"""
    photos: Annotated[int, Range(1)] = 3
    """how many of them, spread over the folder"""
    rounds: Annotated[int, Range(1)] = 7
    """the number of times that everything is timed, after one round to warm up"""
    core_hour: Annotated[float, Range(0, above=True)] = 0.04
    """price of an hour of one core, dollars"""
    gpu_hour: Annotated[float, Range(0, above=True)] = 2.0
    """price of an hour of one GPU with its cores, dollars"""
    gpu_rate: Annotated[tuple[float, ...], Parameter(negative=(), consume_multiple=True), Range(0, above=True)] = (
        100,
        300,
        1000,
        3000,
    )
    """pictures a second that a GPU paints, as `fastnst benchmark stylize --device cuda` says: a line for each"""
    gpu_cores: Annotated[int, Range(1)] = 8
    """cores beside a GPU"""
    node_cores: Annotated[int, Range(1)] = 64
    """cores of a node without one"""
    network: Annotated[float, Range(0, above=True)] = 10
    """what the network of a node carries, gigabits a second"""
    put: Annotated[float, Range(0)] = 5.0
    """price of a million requests that write to the object store, dollars"""
    get: Annotated[float, Range(0)] = 0.4
    """price of a million requests that read from it, dollars"""
    month: Annotated[float, Range(0)] = 23.0
    """price of a terabyte that lies there for a month, dollars"""
    part_size: Annotated[int, Range(1)] = 1000
    """pictures in a tar or a Parquet file"""
    hours: Annotated[float, Range(0, above=True)] = 24
    """how long a run may take"""
    measured: Path | None = None
    """take what --json printed before, and measure nothing"""
    page: Path | None = None
    """a page whose tables are replaced, between <!-- NAME --> and <!-- end -->"""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """print what was measured as JSON"""


@dataclass(frozen=True)
class Cost:
    """One picture of one size in one style: core-seconds of each stage, and of all at once; bytes read and written."""

    style: str
    size: int
    decode: float
    paint: float
    encode: float
    store: float
    together: float
    read: int
    written: int

    @property
    def total(self) -> float:
        """Core-seconds of the four stages."""
        return self.decode + self.paint + self.encode + self.store

    @property
    def beside(self) -> float:
        """Core-seconds of what a GPU does not do."""
        return self.total - self.paint

    @property
    def rate(self) -> float:
        """Pictures a second of a core that does everything."""
        return 1 / self.total

    @property
    def widest(self) -> str:
        """The stage that takes the largest part of a core."""
        return max(STAGES, key=lambda stage: getattr(self, stage))

    def cents(self, core_hour: float, pictures: float = 1e6) -> float:
        """What that many pictures cost, at dollars for an hour of a core."""
        return pictures * self.total / 3600 * core_hour * 100

    def core_hours(self, pictures: float) -> float:
        return pictures * self.total / 3600

    def megabits(self, pictures_per_second: float) -> float:
        """Megabits a second that go over a network, both ways together."""
        return pictures_per_second * (self.read + self.written) * 8 / 1e6


def main(options: Options = Options()) -> None:
    """Time what a picture costs on one core, and print what millions of them come to."""
    if options.measured is not None:
        costs = [Cost(**one) for one in json.loads(options.measured.read_text())]
    else:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # and ONNX Runtime takes one thread
        costs = measure(options)
    if options.as_json:
        print(json.dumps([asdict(cost) for cost in costs]))
        return
    tables = tables_of(costs, options)
    if options.page is None:
        print("\n".join(f"{name}:\n\n{table}" for name, table in tables.items()))
    else:
        options.page.write_text(with_tables(options.page.read_text(), tables))


def measure(options: Options) -> list[Cost]:
    """Everything timed in turns: the medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        works = {
            (style, size): Work(
                style, photographs(options.content, options.photos, size), Path(folder, style, f"{size}")
            )
            for style in options.style
            for size in options.size
        }
        times: dict[tuple[str, int], dict[str, list[float]]] = {key: {} for key in works}
        with Progress("timing", len(works) * (options.rounds + 1), "turn") as progress:
            for number in range(options.rounds + 1):
                for key, work in works.items():
                    for name, seconds in work.turn():
                        if number:
                            times[key].setdefault(name, []).append(seconds)
                    progress.advance()
    return [
        Cost(
            Path(style).stem,
            size,
            **{name: median(taken) for name, taken in times[style, size].items()},
            read=round(mean(map(len, work.encoded))),
            written=round(mean(map(len, work.painted))),
        )
        for (style, size), work in works.items()
    ]


class Work:
    """Some photographs of one size through one style, in stages and all at once."""

    def __init__(self, style: str, encoded: list[bytes], folder: Path) -> None:
        self.stylizer = Stylizer.open(style, engine="onnx", device="cpu")
        self.encoded, self.folder, self.options = encoded, folder, StylizeOptions(overwrite=True)
        self.painted: list[bytes] = []
        sources = [folder / "photos" / f"{number}.jpg" for number in range(len(encoded))]
        self.jobs = [Job(source, folder / "paintings" / source.name) for source in sources]
        for source, data in zip(sources, encoded, strict=True):
            write_bytes(source, data)

    def turn(self) -> Iterator[tuple[str, float]]:
        """Core-seconds a picture of each stage, then of all at once as `fastnst stylize` does it."""
        options = self.options
        pictures, seconds = self._each(decode_picture, self.encoded)
        yield "decode", seconds
        paintings, seconds = self._each(lambda picture: self.stylizer.stylize_picture(picture, options), pictures)
        yield "paint", seconds
        self.painted, seconds = self._each(lambda one: encode_picture(one, "JPEG", options.quality), paintings)
        yield "encode", seconds
        yield "store", self._each(self._store, self.painted)[1]
        started = time.process_time()
        assert all(outcome.error is None for outcome in run(self.stylizer, self.jobs, options))
        yield "together", (time.process_time() - started) / len(self.jobs)

    def _each(self, work: Callable[[Any], Any], given: Sequence[Any]) -> tuple[list[Any], float]:
        started = time.process_time()
        made = [work(one) for one in given]
        return made, (time.process_time() - started) / len(given)

    def _store(self, data: bytes) -> str:
        """Read what was to be painted, write what was painted, and the sum of it that the manifest has."""
        self.jobs[0].source.read_bytes()
        write_bytes(self.folder / "stored.jpg", data)
        return hashlib.sha256(data).hexdigest()


def photographs(folder: Path, count: int, size: int) -> list[bytes]:
    """Photographs cut and scaled to a square, as JPEG of quality 90."""
    paths = sorted(folder.glob("*.jpg"))
    encoded = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        with Image.open(path) as photo:
            square = ImageOps.fit(photo.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
        target = tempfile.SpooledTemporaryFile()  # noqa: SIM115
        square.save(target, "JPEG", quality=90)
        target.seek(0)
        encoded.append(target.read())
    return encoded


def tables_of(costs: Sequence[Cost], options: Options) -> dict[str, str]:
    """The tables of the page by their names, in Markdown."""
    return {
        "picture": picture_table(costs, options),
        "fleet": fleet_table(costs, options),
        "node": node_table(costs, options),
        "gpu": gpu_table(costs, options),
        "bill": bill_table(costs, options),
    }


def picture_table(costs: Sequence[Cost], options: Options) -> str:
    """One picture on one core."""
    heads = ["style", "size", *STAGES, "sum", "all at once", "pictures/s", "cents a million", "KB in", "KB out"]
    rows = []
    for cost in costs:
        stages = [milliseconds(getattr(cost, stage)) for stage in (*STAGES, "total", "together")]
        numbers = [f"{cost.rate:.3g}", f"{cost.cents(options.core_hour):,.0f}", kilobytes(cost.read)]
        rows.append([f"`{cost.style}`", f"{cost.size}x{cost.size}", *stages, *numbers, kilobytes(cost.written)])
    return table(heads, rows)


def fleet_table(costs: Sequence[Cost], options: Options) -> str:
    """Many pictures: core-hours, cores for a run of some hours, bytes."""
    counts = {f"10^{len(str(count)) - 1}": count for count in COUNTS}
    cores = [f"cores for {name} in {options.hours:g} h" for name in counts]
    heads = ["style", "size", "core-hours a million", *cores, "TB in, 10^9", "TB out, 10^9"]
    rows = []
    for cost in costs:
        needed = [rounded(cost.core_hours(count) / options.hours) for count in counts.values()]
        stored = [rounded(1e9 * size / 1e12) for size in (cost.read, cost.written)]
        rows.append([f"`{cost.style}`", f"{cost.size}x{cost.size}", rounded(cost.core_hours(1e6)), *needed, *stored])
    return table(heads, rows)


def node_table(costs: Sequence[Cost], options: Options) -> str:
    """A node full of actors: its rate, what goes over its network, and what takes most of its cores."""
    heads = ["style", "size", "pictures/s", "Mbit/s", "requests/s as files", "busiest", "its share"]
    rows = []
    for cost in costs:
        rate = options.node_cores * cost.rate
        share = getattr(cost, cost.widest) / cost.total
        numbers = [f"{rate:.3g}", rounded(cost.megabits(rate)), rounded(2 * rate)]
        rows.append(
            [f"`{cost.style}`", f"{cost.size}x{cost.size}", *numbers, cost.widest, f"{share:.0%}".replace("%", " %")]
        )
    return table(heads, rows)


def gpu_table(costs: Sequence[Cost], options: Options) -> str:
    """A GPU that paints at a rate: the cores that feed it, and what is the bottleneck with those that it has."""
    beside = f"with {options.gpu_cores} cores and {options.network:g} Gbit/s"
    heads = ["size", "a GPU paints, pictures/s", "cores that feed it", "Mbit/s", f"{beside}, pictures/s", "bottleneck"]
    rows = []
    for size in dict.fromkeys(cost.size for cost in costs):
        cost = next(cost for cost in costs if cost.size == size)
        for rate in options.gpu_rate:
            limits = {
                "paint": rate,
                "decode and encode": options.gpu_cores / cost.beside,
                "network": options.network * 1000 / cost.megabits(1),
            }
            narrowest = min(limits, key=lambda name: limits[name])
            reached = limits[narrowest]
            price = 1e6 / reached / 3600 * options.gpu_hour * 100
            numbers = [f"{rate:g}", f"{rate * cost.beside:.1f}", rounded(cost.megabits(rate)), rounded(reached)]
            rows.append([f"{size}x{size}", *numbers, narrowest, f"{price:,.0f}"])
    return table([*heads, "cents a million"], rows)


def bill_table(costs: Sequence[Cost], options: Options) -> str:
    """What 10^9 pictures cost, in dollars: cores, requests, and a month in the object store."""
    heads = ["style", "size", "cores", "reads", "writes as files", f"writes as tars of {options.part_size}"]
    rows = []
    for cost in costs:
        millions = 1000
        stored = millions * 1e6 * (cost.read + cost.written) / 1e12
        dollars = [
            cost.core_hours(millions * 1e6) * options.core_hour,
            millions * options.get,
            millions * options.put,
            millions * options.put / options.part_size,
            stored * options.month,
        ]
        rows.append([f"`{cost.style}`", f"{cost.size}x{cost.size}", *map(rounded, dollars)])
    return table([*heads, "a month there"], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The page with each of its tables replaced that is between <!-- NAME --> and <!-- end -->."""
    for name, text in tables.items():
        page = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{text}\g<2>", page, flags=re.DOTALL)
    return page


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f}"


def kilobytes(size: int) -> str:
    return f"{size / 1000:.0f}"


def rounded(number: float) -> str:
    """Three digits that count."""
    return f"{float(f'{number:.3g}'):,g}" if number < 1e6 else f"{float(f'{number:.3g}'):,.0f}"


app = App(default_command=main, name="scale_numbers.py", version_flags=[], help_format="plaintext")

if __name__ == "__main__":
    app()
