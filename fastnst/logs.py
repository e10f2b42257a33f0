"""What a training run leaves to look at: metrics.jsonl, TensorBoard events and preview pictures."""

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fastnst.config import TrainConfig
from fastnst.crops import Crops
from fastnst.errors import FastnstError, OutputError
from fastnst.files import make_folder, printable, sync, write_bytes
from fastnst.image import Picture, Pixels, to_array, to_pixels, write_picture
from fastnst.losses import LossValues
from fastnst.nets.torch_net import TransformerNet

log = logging.getLogger(__name__)

BUFFER = 4 << 20  # bytes
FLUSH_EVERY = 2.0  # seconds
PREVIEW_SIZE = 512  # pixels, longer side
PREVIEWS = 4  # photos, at most


@dataclass(frozen=True)
class StepReport:
    """One line of metrics.jsonl: the weighted losses of a step and the state of the run after it."""

    step: int
    images: int
    content: float
    style: float
    tv: float
    total: float
    lr: float
    images_per_second: float
    temporal: float | None = None  # the weighted penalty for flicker, beside the total, where it is asked for

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Preview(NamedTuple):
    """A preview picture of a run: photo number `photo` beside what the network makes of it after `step` steps."""

    step: int
    photo: int
    path: Path


def shows_preview(step: int, every: int) -> bool:
    """Whether previews are due after this number of steps: 0, 10, 20, 50, 100, 200, 500 ... and each `every` steps."""
    return re.fullmatch("0|[125]0+", str(step)) is not None or step % every == 0


def find_previews(folder: Path) -> list[Preview]:
    """The previews in a run's log folder, by step and photo."""
    names = re.compile(r"(\d{6,})-(\d+)\.jpg")
    matches = [(names.fullmatch(path.name), path) for path in (folder / "previews").glob("*.jpg")]
    return sorted(Preview(int(match[1]), int(match[2]), path) for match, path in matches if match)


def read_metrics(folder: Path) -> list[StepReport]:
    """The steps in a run's metrics.jsonl; lines that a crash cut off are left out."""
    path = folder / "metrics.jsonl"
    reports = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            if "steadiness" in values:  # its name in earlier versions
                values["temporal"] = values.pop("steadiness")
            reports.append(StepReport(**values))
        except (ValueError, TypeError):
            continue
    return reports


class EventFile:
    """A TensorBoard event file; what a full disk refuses is kept for the next flush."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"
        # Buffers hold more than is written between two flushes, and what a flush cannot write it keeps for the next.
        self.file = open(path, "ab", buffering=BUFFER)  # noqa: SIM115
        self.add(0, file_version="brain.Event:2")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import scalar

        for name, value in values.items():
            self.add(step, summary=scalar(name, value))  # type: ignore[no-untyped-call]

    def picture(self, step: int, name: str, pixels: Pixels) -> None:
        from torch.utils.tensorboard.summary import image

        self.add(step, summary=image(name, pixels, dataformats="HWC"))  # type: ignore[no-untyped-call]

    def add(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Not torch's SummaryWriter: it writes in a thread that dies of a full disk with a traceback.
        RecordWriter(self.file).write(Event(wall_time=time.time(), step=step, **content).SerializeToString())


class BestEffortLogs:
    """A log folder that may fail without harm to the work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing = False

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Say once that the logs cannot be written, and go on."""
        try:
            yield
        except (OSError, OutputError) as error:
            if not self.failing:
                log.warning("the logs in %s are incomplete: %s; the work goes on", printable(self.folder), error)
            self.failing = True


class PictureLogs(BestEffortLogs):
    """metrics.jsonl, TensorBoard events and pictures of one that is being optimized; without a folder nothing.

    Raises OutputError if the folder cannot be made.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder or Path())
        self.silent = folder is None
        if folder is not None:
            make_folder(folder)
            self.events = EventFile(folder)
            self.metrics = open(folder / "metrics.jsonl", "wb", buffering=BUFFER)  # noqa: SIM115

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self.silent:
            return
        with self._tolerant():
            self.metrics.write(json.dumps({"step": step, **values}).encode() + b"\n")
            self.metrics.flush()
            self.events.scalars(step, {f"loss/{name}": value for name, value in values.items()})

    def picture(self, step: int, picture: Picture, suffix: str) -> None:
        if self.silent:
            return
        with self._tolerant():
            write_picture(picture, self.folder / f"{step:06d}{suffix}")
            self.events.picture(step, "picture", picture.rgb)
            self.events.file.flush()

    def close(self) -> None:
        for file in () if self.silent else (self.metrics, self.events.file):
            with self._tolerant():
                file.close()


class RunLogs(BestEffortLogs):
    """metrics.jsonl, TensorBoard events and preview pictures; a full disk costs them, never the run."""

    def __init__(self, config: TrainConfig, photographs: Crops[Any], start: int) -> None:
        super().__init__(config.log_folder)
        self.photographs = photographs
        self.flushed = 0.0
        make_folder(self.folder / "previews")
        self.events = EventFile(self.folder)
        self._begin(start)
        thirds = [photographs.count // 3, photographs.count * 2 // 3]
        chosen = photographs.held_out[:PREVIEWS] or [photographs.trained(number) for number in thirds]
        self.previews = [picture for photo in chosen if (picture := _preview_photo(photographs, photo)) is not None]

    def rewind(self, step: int) -> None:
        """Forget this step and all after it, because they are done again."""
        with self._tolerant():
            self.metrics.flush()
            before = self.metrics
            self._begin(step)
            before.close()

    def _begin(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        path = self.folder / "metrics.jsonl"
        write_bytes(path, b"".join(_lines_before(path, step)))
        self.metrics = open(path, "ab", buffering=BUFFER)  # noqa: SIM115
        self.events.add(step, session_log=SessionLog(status=SessionLog.START))  # TensorBoard forgets from here on, too
        for preview in find_previews(self.folder):
            if preview.step > step:
                preview.path.unlink(missing_ok=True)

    def __enter__(self) -> "RunLogs":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        for file in (self.metrics, self.events.file):
            with self._tolerant():
                file.close()

    def write(self, report: StepReport) -> None:
        values = report.to_json()
        losses = {f"loss/{name}": values[name] for name in LossValues._fields if name in values}
        speeds = {"learning_rate": report.lr, "images_per_second": report.images_per_second}
        with self._tolerant():
            self.metrics.write(json.dumps(values).encode() + b"\n")
            self.events.scalars(report.step, losses | speeds)
            if time.monotonic() - self.flushed > FLUSH_EVERY:  # for whoever is watching
                self.flushed = time.monotonic()
                self.metrics.flush()
                self.events.file.flush()

    def flush(self) -> None:
        """Everything up to now survives the process; also the list of unusable photographs."""
        with self._tolerant():
            for file in (self.metrics, self.events.file):
                sync(file)
                if not os.path.lexists(file.name):  # not the number of its links, which is always 0 on some drives
                    raise OutputError(f"{printable(file.name)} was removed")
            if problems := self.photographs.problems():
                lines = sorted(f"{printable(problem.place)}\t{problem.reason}\n" for problem in problems)
                write_bytes(self.folder / "bad_images.txt", "".join(lines).encode())

    def preview(self, step: int, net: TransformerNet) -> None:
        """Stylize the fixed photos as they would be now, side by side with the photos."""
        for index, photo in enumerate(self.previews):
            training = net.training
            with torch.no_grad():
                content = torch.from_numpy(to_array(photo.rgb)).to(next(net.parameters()).device)
                stylized = net.eval()(content).clamp(0, 1).cpu().numpy()
            net.train(training)
            if not np.isfinite(stylized).all():
                return
            row = np.concatenate([photo.rgb, to_pixels(stylized)], axis=1)
            with self._tolerant():
                self.events.picture(step, f"preview/{index}", row)
                write_picture(Picture(row), self.folder / "previews" / f"{step:06d}-{index}.jpg")
        self.flush()


def _lines_before(path: Path, step: int) -> list[bytes]:
    """Whole lines of metrics.jsonl for steps before this one."""
    lines = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            if json.loads(line)["step"] < step:
                lines.append(line)
        except (ValueError, KeyError):
            continue
    return lines


def _preview_photo(photographs: Crops[Any], photo: Any) -> Picture | None:
    try:
        return photographs.read(photo, max_size=PREVIEW_SIZE)
    except FastnstError:
        return None
