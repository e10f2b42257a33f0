"""What a training run leaves to look at: metrics.jsonl, TensorBoard events and preview pictures."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastnst.config import TrainConfig
from fastnst.data import Photographs
from fastnst.errors import FastnstError, OutputError
from fastnst.files import make_folder, show, write_bytes
from fastnst.image import Picture, read_picture, to_array, to_pixels, write_picture
from fastnst.nets import TransformerNet

log = logging.getLogger(__name__)

BUFFER = 4 << 20  # bytes
FLUSH_EVERY = 2.0  # seconds
PREVIEW_SIZE = 512  # pixels, longer side


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


class RunLogs:
    """metrics.jsonl, TensorBoard events and preview pictures; a full disk costs them, never the run."""

    def __init__(self, config: TrainConfig, photographs: Photographs, start: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self.folder = config.log_folder
        self.photographs = photographs
        self.failing = False
        self.flushed = 0.0
        make_folder(self.folder / "previews")
        metrics = self.folder / "metrics.jsonl"
        kept = _lines_before(metrics, start) if start else []
        write_bytes(metrics, b"".join(kept))
        # Buffers hold more than is written between two flushes, and what a flush cannot write it keeps for the next.
        self.metrics = open(metrics, "ab", buffering=BUFFER)  # noqa: SIM115
        events = self.folder / f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"
        self.events = open(events, "ab", buffering=BUFFER)  # noqa: SIM115
        self._event(0, file_version="brain.Event:2")
        # TensorBoard forgets what an interrupted or overwritten run showed from this step on.
        self._event(start, session_log=SessionLog(status=SessionLog.START))
        chosen = [photographs.files[len(photographs.files) * third // 3] for third in (1, 2)]
        self.previews = [picture for path in chosen if (picture := _preview_photo(path)) is not None]

    def __enter__(self) -> "RunLogs":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        for file in (self.metrics, self.events):
            with self._tolerant():
                file.close()

    def write(self, report: StepReport) -> None:
        from torch.utils.tensorboard.summary import scalar

        losses = {f"loss/{name}": getattr(report, name) for name in ("content", "style", "tv", "total")}
        speeds = {"learning_rate": report.lr, "images_per_second": report.images_per_second}
        with self._tolerant():
            self.metrics.write(json.dumps(asdict(report)).encode() + b"\n")
            for name, value in (losses | speeds).items():
                self._event(report.step, summary=scalar(name, value))  # type: ignore[no-untyped-call]
            if time.monotonic() - self.flushed > FLUSH_EVERY:  # for whoever is watching
                self.flushed = time.monotonic()
                self.metrics.flush()
                self.events.flush()

    def flush(self) -> None:
        """Everything up to now survives the process; also the list of unusable photographs."""
        with self._tolerant():
            for file in (self.metrics, self.events):
                file.flush()
                os.fsync(file.fileno())
                if os.fstat(file.fileno()).st_nlink == 0:
                    raise OutputError(f"{show(file.name)} was removed")
            if self.photographs.unusable:
                lines = [f"{show(path)}\t{reason}\n" for path, reason in sorted(self.photographs.unusable.items())]
                write_bytes(self.folder / "bad_images.txt", "".join(lines).encode())

    def preview(self, step: int, net: TransformerNet) -> None:
        """Paint the fixed photos as they would be painted now, side by side with the photos."""
        from torch.utils.tensorboard.summary import image

        for index, photo in enumerate(self.previews):
            with torch.no_grad():
                content = torch.from_numpy(to_array(photo.rgb)).to(next(net.parameters()).device)
                painted = net(content).clamp(0, 1).cpu().numpy()
            if not np.isfinite(painted).all():
                return
            row = np.concatenate([photo.rgb, to_pixels(painted)], axis=1)
            with self._tolerant():
                self._event(step, summary=image(f"preview/{index}", row, dataformats="HWC"))  # type: ignore[no-untyped-call]
                write_picture(Picture(row), self.folder / "previews" / f"{step:06d}-{index}.jpg")
        self.flush()

    def _event(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Not torch's SummaryWriter: it writes in a thread that dies of a full disk with a traceback.
        RecordWriter(self.events).write(Event(wall_time=time.time(), step=step, **content).SerializeToString())

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Say once that the logs cannot be written, and go on."""
        try:
            yield
        except (OSError, OutputError) as error:
            if not self.failing:
                log.warning("the logs in %s are incomplete: %s; training goes on", show(self.folder), error)
            self.failing = True


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


def _preview_photo(path: Path) -> Picture | None:
    try:
        return read_picture(path, max_size=PREVIEW_SIZE)
    except FastnstError:
        return None
