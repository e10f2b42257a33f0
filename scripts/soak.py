"""One Stylizer for half an hour over good and bad pictures: memory, threads and open files must stay flat.

A line of JSON every `--every` seconds, and a last one with the verdict: exit status 1 if, after the first fifth,
resident memory grows by more than 100 MiB or 1 MiB a minute, or there are more threads or open files than there were.

Usage: .venv/bin/python scripts/soak.py --minutes 30
"""

import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cyclopts import App
from PIL import Image

from fastnst import Stylizer
from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError

PHOTOS = Path(__file__).parent.parent / "examples" / "photos"
GROWTH, SLOPE = 100, 1.0  # MiB in all, MiB a minute

OPTIONS = [
    StylizeOptions(),
    StylizeOptions(max_size=160),
    StylizeOptions(strength=0.5),
    StylizeOptions(stroke=1.5),
    StylizeOptions(preserve_color="luma"),
    StylizeOptions(preserve_color="histogram"),
    StylizeOptions(tile=128),
]


class Sample(NamedTuple):
    """What the process has at a time; seconds since it began."""

    seconds: float
    mebibytes: float
    threads: int
    files: int


def sample(started: float) -> Sample:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident = int(fields["VmRSS"].split()[0]) / 1024
    return Sample(time.monotonic() - started, resident, int(fields["Threads"]), len(os.listdir("/proc/self/fd")))


def verdict(samples: Sequence[Sample]) -> dict[str, float | bool]:
    """How everything grew after the first fifth of the time, and whether that is flat."""
    later = samples[len(samples) // 5 :]
    seconds, resident = (np.array([getattr(one, name) for one in later]) for name in ("seconds", "mebibytes"))
    slope = float(np.polyfit(seconds / 60, resident, 1)[0])
    growth = float(resident.max() - resident[0])
    threads, files = (
        max(getattr(one, name) for one in later) - getattr(later[0], name) for name in ("threads", "files")
    )
    flat = growth <= GROWTH and slope <= SLOPE and threads <= 0 and files <= 0
    return {"growth": growth, "mebibytes_a_minute": slope, "threads": threads, "files": files, "flat": flat}


def make_material(folder: Path) -> list[Path]:
    """Good pictures of several kinds and sizes, and as many that are none, damaged, tiny or missing."""
    good = []
    for number, path in enumerate(sorted(PHOTOS.glob("*.jpg"))[:12]):
        with Image.open(path) as image:
            picture = image.convert("RGB").resize((120 + 37 * number, 90 + 29 * number))
        if number % 4 == 1:
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        suffix = [".jpg", ".png", ".webp", ".gif"][number % 4]
        good.append(folder / f"{number}{suffix}")
        picture.save(good[-1])
    bad = [folder / "missing.jpg", folder]
    for number, path in enumerate(good[:6]):
        data = bytearray(path.read_bytes())
        cut, flipped = folder / f"cut{number}{path.suffix}", folder / f"flipped{number}{path.suffix}"
        cut.write_bytes(data[: len(data) // 2])
        for at in range(40, len(data), 97):
            data[at] ^= 0x55
        flipped.write_bytes(data)
        bad += [cut, flipped]
    for name, content in {"empty.png": b"", "text.jpg": b"not a picture" * 9}.items():
        (folder / name).write_bytes(content)
        bad.append(folder / name)
    Image.new("RGB", (3, 3)).save(folder / "tiny.png")
    return [*good, *bad, folder / "tiny.png"]


app = App(name="soak.py", version_flags=[])


@app.default
def main(*, minutes: float = 30, every: float = 10, style: str = "great-wave", seed: int = 0) -> int:
    """Stylize for that long, in an order that depends on the seed."""
    logging.disable(logging.CRITICAL)
    chance, counts = random.Random(seed), Counter[str]()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        material = make_material(Path(folder))
        stylizer = Stylizer.open(style)
        started = time.monotonic()
        for _ in count():
            try:
                stylizer.stylize(chance.choice(material), chance.choice(OPTIONS))
                counts["stylized"] += 1
            except FastnstError:
                counts["refused"] += 1
            if time.monotonic() - started >= every * len(samples):
                samples.append(sample(started))
                print(json.dumps(samples[-1]._asdict()), flush=True)
            if time.monotonic() - started > minutes * 60:
                break
    found = verdict(samples)
    print(json.dumps({**counts, **found}))
    return 0 if found["flat"] else 1


if __name__ == "__main__":
    sys.exit(app())
