"""Save a checkpoint and its state a second time, dying at one of the calls to the system; prints how many there are.

Arguments: folder, call to die at, -1 for none.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from fastnst.checkpoint import CheckpointMeta, TrainState, save_checkpoint, save_state
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

folder, last = Path(sys.argv[1]), int(sys.argv[2])
calls = 0


def deadly(call):
    def counted(*arguments, **options):
        global calls
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return call(*arguments, **options)

    return counted


torch.manual_seed(0)
net = TransformerNet(NetConfig(channels=(4, 4, 4), blocks=1))


def save(step):
    state = TrainState({"moment": torch.full((1000,), float(step))}, {"step": step, "config": {}})
    save_state(folder / "a.state.safetensors", state)
    save_checkpoint(folder / "a.safetensors", net, CheckpointMeta("custom", net.config.to_json(), {}, steps=step))


save(1)
for name in ("open", "write", "fsync", "close", "link", "unlink", "replace", "chmod", "fdopen"):
    setattr(os, name, deadly(getattr(os, name)))
save(2)
print(calls)
