"""Damaged files of every kind fastnst reads: each is read or refused, soon, in little memory, and no process dies.

Input number n of a kind depends on (seed, kind, n) alone: `--first N --inputs 1 --kind pictures` is that one again.
What failed is kept in the folder `--keep` names. Exit status 1 if anything did.

Usage: .venv/bin/python scripts/fuzz.py --inputs 20000 --seed 0
"""

import json
import logging
import multiprocessing
import os
import random
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cyclopts import App
from PIL import Image, PngImagePlugin

from fastnst.errors import FastnstError

EXAMPLES = Path(__file__).parent.parent / "examples"
SLOW = 2.0  # seconds of the processor
LARGE = 300  # MiB
HANGS = 120  # seconds by the clock, on a busy machine, too

Seeds = dict[str, bytes]  # name -> a good file
Target = Callable[[Path], object]


class Result(NamedTuple):
    """How one input went: read, refused, or what was wrong."""

    number: int
    outcome: str
    seconds: float
    mebibytes: int


def photo(size: int = 96) -> Image.Image:
    with Image.open(EXAMPLES / "photos" / "owl.jpg") as image:
        return image.convert("RGB").resize((size, size * 3 // 4))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture_seeds() -> Seeds:
    image = photo()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    profile = Image.open(EXAMPLES / "photos" / "owl.jpg").info.get("icc_profile") or b""
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "stylized " * 200, zip=True)
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    depth = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return {
        "jpeg": encoded(image, "JPEG", exif=exif, icc_profile=profile),
        "progressive": encoded(image, "JPEG", progressive=True, quality=80),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image, "PNG", pnginfo=text, exif=exif),
        "alpha": encoded(clear, "PNG"),
        "palette": encoded(image.quantize(32), "PNG", transparency=3),
        "16 bit": encoded(depth, "PNG"),
        "webp": encoded(clear, "WEBP", exif=exif),
        "lossless webp": encoded(image, "WEBP", lossless=True),
        "gif": encoded(image.quantize(64), "GIF", save_all=True, append_images=[image.rotate(9).quantize(64)]),
        "avif": encoded(clear, "AVIF", exif=exif),
        "tiff": encoded(image, "TIFF", compression="tiff_lzw"),
        "jpeg in tiff": encoded(image, "TIFF", compression="jpeg"),
        "bmp": encoded(image, "BMP"),
    }


def clip_seeds() -> Seeds:
    import av

    frames = [np.roll(np.asarray(photo(64)), 3 * step, axis=1) for step in range(6)]
    seeds = {}
    for suffix, codec in {
        ".mp4": "libx264",
        ".mov": "mpeg4",
        ".mkv": "libx264",
        ".avi": "mpeg4",
        ".webm": "libvpx",
        ".ts": "mpeg2video",
        ".flv": "flv1",
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"clip{suffix}"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=25)
                stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
                sound = container.add_stream(
                    {".webm": "libopus", ".ts": "mp2"}.get(suffix, "aac"), rate=48_000, layout="mono"
                )
                for pixels in frames:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())
                tone = (np.sin(np.arange(9600) / 17) * 9000).astype(np.int16)
                samples = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
                samples.sample_rate = 48_000
                container.mux(sound.encode(samples))
                container.mux(sound.encode())
            seeds[suffix] = path.read_bytes()
    images = [Image.fromarray(pixels) for pixels in frames]
    for format in ("GIF", "PNG", "WEBP"):
        seeds[f"animated {format}"] = encoded(images[0], format, save_all=True, append_images=images[1:], duration=40)
    return seeds


def weight_seeds() -> Seeds:
    import torch

    from fastnst.checkpoint import CheckpointMeta, TrainState, save_checkpoint, state_to_bytes
    from fastnst.nets.spec import NetConfig
    from fastnst.nets.torch_net import TransformerNet

    torch.manual_seed(0)
    net = TransformerNet(NetConfig(channels=(8, 8, 8), blocks=1))
    foreign = foreign_weights()
    buffer, arrays = BytesIO(), BytesIO()
    torch.save({name: torch.from_numpy(values) for name, values in foreign.items()}, buffer)
    np.savez(arrays, **foreign)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "style.safetensors"
        save_checkpoint(path, net, CheckpointMeta("custom", net.config.to_json(), {"name": "a", "credit": "b"}))
        checkpoint = path.read_bytes()
    state = state_to_bytes(TrainState({"moment": torch.ones(100)}, {"step": 1, "config": {}}))
    return {
        "style.safetensors": checkpoint,
        "state.safetensors": state,
        "style.pth": buffer.getvalue(),
        "style.npz": arrays.getvalue(),
    }


def foreign_weights() -> dict[str, np.ndarray]:
    """Those of a narrow network under the names of pytorch/examples."""
    channels, weights = 4, {}
    layers = {"conv1": (channels, 3, 9), "conv2": (channels, channels, 3), "conv3": (channels, channels, 3)}
    layers |= {f"res{i}.conv{j}": (channels, channels, 3) for i in range(1, 6) for j in (1, 2)}
    layers |= {"deconv1": (channels, channels, 3), "deconv2": (channels, channels, 3), "deconv3": (3, channels, 9)}
    norms = [f"in{i}" for i in range(1, 6)] + [f"res{i}.in{j}" for i in range(1, 6) for j in (1, 2)]
    generator = np.random.default_rng(0)
    for name, (outputs, inputs, kernel) in layers.items():
        values = generator.normal(0, 0.1, (outputs, inputs, kernel, kernel))
        weights[f"{name}.conv2d.weight"] = values.astype(np.float32)
        weights[f"{name}.conv2d.bias"] = np.zeros(outputs, np.float32)
    for name in norms:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = np.ones((2, channels), np.float32)
    return weights


def onnx_seeds() -> Seeds:
    import torch

    from fastnst.nets.onnx_graph import build
    from fastnst.nets.spec import NetConfig
    from fastnst.nets.torch_net import TransformerNet

    torch.manual_seed(0)
    net = TransformerNet(NetConfig(channels=(4, 4, 8), blocks=1))
    plain = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(torch.nn.Conv2d(3, 3, 3, padding=1), (torch.rand(1, 3, 32, 32),), plain, dynamo=False)
    return {
        "export.onnx": build(net.config, {name: value.numpy() for name, value in net.state_dict().items()}),
        "plain.onnx": plain.getvalue(),
    }


def read_picture(path: Path) -> object:
    from fastnst.image import read_picture

    return read_picture(path)


def read_clip(path: Path) -> object:
    from fastnst.video.read import open_clip

    with open_clip(path) as reader:
        return sum(1 for _ in islice(reader, 200))


def read_weights(path: Path) -> object:
    from fastnst.checkpoint import load_checkpoint, load_state
    from fastnst.config import ImportOptions
    from fastnst.foreign.convert import import_model

    last: FastnstError | None = None
    for attempt in (
        load_checkpoint,
        load_state,
        lambda path: import_model(path, path.with_name("imported.safetensors"), ImportOptions(overwrite=True)),
    ):
        try:
            return attempt(path)
        except FastnstError as error:
            last = error
    raise last or FastnstError("nothing was tried")


def stylize_with(path: Path) -> object:
    from fastnst.stylize import Stylizer

    return Stylizer.open(path).stylize(photo(32))


KINDS: dict[str, tuple[Callable[[], Seeds], Target]] = {
    "pictures": (picture_seeds, read_picture),
    "clips": (clip_seeds, read_clip),
    "weights": (weight_seeds, read_weights),
    "onnx": (onnx_seeds, stylize_with),
}


def damaged(data: bytearray, seeds: Seeds, chance: random.Random) -> bytes:
    """A file with one to four damages, most of them near its beginning, where headers are."""
    for _ in range(chance.choice([1, 1, 1, 2, 3, 4])):
        reach = max(1, min(len(data), chance.choice([32, 256, 2048, len(data)])))
        at, length = chance.randrange(reach), chance.randint(1, 64)
        match chance.choice(["bits", "bits", "number", "number", "cut", "remove", "repeat", "splice"]):
            case "bits":
                for _ in range(min(chance.randint(1, 4), len(data))):
                    data[chance.randrange(reach) % len(data)] ^= 1 << chance.randrange(8)
            case "number":
                value = chance.choice(
                    [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, chance.getrandbits(32)]
                )
                data[at : at + 4] = struct.pack(chance.choice(["<I", ">I"]), value)
            case "cut":
                del data[chance.randrange(len(data) + 1) :]
            case "remove":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length] * chance.randint(1, 3)
            case "splice":
                other = chance.choice(list(seeds.values()))
                start = chance.randrange(len(other))
                data[at : at + length] = other[start : start + length]
        if not data:
            break
    return bytes(data)


def write_input(folder: Path, stem: str, seeds: Seeds, seed: int, kind: str, number: int) -> Path:
    """One of the good files, damaged, under its suffix."""
    chance = random.Random(f"{seed} {kind} {number}")
    name = chance.choice(list(seeds))
    path = folder / f"{stem}{Path(name).suffix}"
    path.write_bytes(damaged(bytearray(seeds[name]), seeds, chance))
    return path


def tried(target: Target, path: Path, number: int) -> Result:
    """Give a file to what reads it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before, started = memory("VmRSS"), time.process_time()
    try:
        target(path)
        outcome = "read"
    except FastnstError:
        outcome = "refused"
    except Exception as error:
        outcome = f"raised {type(error).__name__}: {error}"[:300]
    seconds, grown = time.process_time() - started, memory("VmHWM") - before
    if outcome in ("read", "refused"):
        outcome = "slow" if seconds > SLOW else "large" if grown > LARGE else outcome
    return Result(number, outcome, seconds, grown)


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(field))


def work(pipe: Connection, kind: str, seed: int, numbers: range) -> None:
    """In a process of its own: the numbers' inputs, each result sent as it is there."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    make, target = KINDS[kind]
    seeds = make()
    with tempfile.TemporaryDirectory() as folder:
        for name, data in seeds.items():  # what is loaded on first use is not an input's
            path = Path(folder) / name
            path.write_bytes(data)
            result = tried(target, path, -1)
            assert result.outcome == "read", (name, result)
        pipe.send("ready")
        for stream in (1, 2):  # what decoders in C say
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        for number in numbers:
            path = write_input(Path(folder), "input", seeds, seed, kind, number)
            pipe.send(tried(target, path, number))


def results(kind: str, seed: int, numbers: range) -> Iterator[Result]:
    """Of all inputs, in order; a process that dies or hangs is the result of the one it had, and another goes on."""
    context = multiprocessing.get_context("spawn")
    while numbers:
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(there, kind, seed, numbers))
        worker.start()
        there.close()
        if here.recv() != "ready":
            raise RuntimeError("the good files cannot be read")
        ended = None
        while numbers and ended is None:
            try:
                if here.poll(HANGS):
                    result = here.recv()
                    numbers = numbers[1:]
                    yield result
                else:
                    worker.kill()
                    ended = "hung"
            except EOFError:
                worker.join()
                ended = f"died with {worker.exitcode}"
        worker.join()
        if ended is not None:
            yield Result(numbers[0], ended, 0, 0)
            numbers = numbers[1:]


app = App(name="fuzz.py", version_flags=[])


@app.default
def main(
    *,
    inputs: int = 20_000,
    first: int = 0,
    seed: int = 0,
    kind: tuple[str, ...] = tuple(KINDS),
    keep: Path | None = None,
    json_: bool = False,
) -> int:
    """Try `inputs` damaged files in all, the same number of each kind."""
    wrong, table = [], {}
    for name in kind:
        numbers = range(first, first + inputs // len(kind))
        counts: Counter[str] = Counter()
        slowest, largest = 0.0, 0
        for result in results(name, seed, numbers):
            good = result.outcome in ("read", "refused")
            counts[result.outcome if good else "wrong"] += 1
            slowest, largest = max(slowest, result.seconds), max(largest, result.mebibytes)
            if not good:
                wrong.append({"kind": name, **result._asdict()})
                print(
                    f"{name} {result.number}: {result.outcome} ({result.seconds:.1f} s, {result.mebibytes} MiB)",
                    file=sys.stderr,
                )
        table[name] = {**counts, "slowest": round(slowest, 2), "largest": largest}
        if not json_:
            print(name, json.dumps(table[name]), flush=True)
    if keep is not None:
        save(wrong, keep, seed)
    if json_:
        print(json.dumps({"seed": seed, "kinds": table, "wrong": wrong}))
    return 1 if wrong else 0


def save(wrong: list[dict[str, object]], folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in {str(one["kind"]) for one in wrong}:
        make, _ = KINDS[kind]
        seeds = make()
        for number in (int(str(one["number"])) for one in wrong if one["kind"] == kind):
            write_input(folder, f"{kind}-{number}", seeds, seed, kind, number)


if __name__ == "__main__":
    sys.exit(app())
