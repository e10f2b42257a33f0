"""A training step when only some MiB of memory are left: prints the micro-batch and losses, or the error.

Arguments: style, content, output, size, batch size, MiB.
"""

import resource
import sys
from pathlib import Path

import numpy as np
import torch

from fastnst.config import TrainConfig
from fastnst.device import keep_freed_memory
from fastnst.errors import UnavailableError
from fastnst.train.run import TrainingRun

torch.set_num_threads(1)
size, batch, spare = map(int, sys.argv[4:])
config = TrainConfig(
    Path(sys.argv[1]),
    content=Path(sys.argv[2]),
    output=Path(sys.argv[3]),
    preset="tiny",
    size=size,
    batch_size=batch,
    precision="fp32",
    device="cpu",
)
run = TrainingRun(config, torch.device("cpu"))
keep_freed_memory(False)  # the limit is on addresses, of which kept memory holds many
small = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
run.step(0, small)  # all that is loaded on first use
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (spare << 20),) * 2)
try:
    losses = run.step(1, np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
except UnavailableError as error:
    print(error)
else:
    print(run.memory.micro_batch, losses.content, losses.style, losses.tv, losses.total)
