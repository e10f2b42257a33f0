"""What a run leaves to go on from, how another goes on from there, and whether it is the same run."""

import hashlib
import json
import logging
from dataclasses import asdict, fields
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from fastnst.checkpoint import (
    CheckpointMeta,
    TrainState,
    load_checkpoint,
    load_state,
    previous_state,
    save_checkpoint,
    save_state,
    state_from_bytes,
    state_to_bytes,
)
from fastnst.config import TrainConfig
from fastnst.crops import Crops
from fastnst.data import Photographs
from fastnst.errors import ModelError, OutputError, UsageError
from fastnst.files import check_output, move, printable
from fastnst.losses import LossValues
from fastnst.train.run import TrainingRun

log = logging.getLogger(__name__)

# A resumed run may differ from the interrupted one in these, because none of them changes a weight but by rounding; the
# weights that --init began with are in the state.
FREE_TO_CHANGE = {
    "init",
    "resume",
    "overwrite",
    "save_every",
    "preview_every",
    "workers",
    "logdir",
    "output",
    "credit",
    "name",
    "steps",
    "time_limit",
    "micro_batch",
}

# These are compared by what is in them, since files may have moved.
_BY_CONTENT = {"style", "content"}


def capture(run: TrainingRun, step: int) -> TrainState:
    """A copy of everything the run needs to go on after this number of steps."""
    tensors = {f"net.{name}": _copy(tensor) for name, tensor in run.net.state_dict().items()}
    for index, values in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": _copy(tensor) for name, tensor in values.items()}
    tensors |= {f"gram.{name}": _copy(mean) for name, mean in run.grams.means.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if run.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(run.device)
    values = {
        "step": step,
        "config": run.config.to_json(),
        "ranks": run.ranks.count,
        "rollbacks": run.rollbacks,
        "droplet_weight": run.droplet_weight,
        "droplets_limited": run.limited,
        "micro_batch": run.memory.micro_batch,
        "recent": [[losses.content, losses.style, losses.tv, losses.total] for losses in run.recent],
        "scaler": run.scaler.state_dict(),
        "painting": run.style_digest,
    }
    return TrainState(tensors, values)


def restore(run: TrainingRun, state: TrainState) -> None:
    """Go back, or on, to where `state` was taken."""
    tensors = state.tensors
    run.net.load_state_dict({name[4:]: t for name, t in tensors.items() if name.startswith("net.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(("optimizer.", "adam.")):  # adam in states of an older fastnst
            _, index, kind = name.split(".")
            # As the optimizer made it: another layout may round differently. A copy, since it works in place.
            layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            moments.setdefault(int(index), {})[kind] = tensor.clone(memory_format=layout)
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": moments})
    run.grams.means = {name[5:]: t.to(run.device) for name, t in tensors.items() if name.startswith("gram.")}
    run.scaler.load_state_dict(state.values["scaler"])
    run.rollbacks = state.values["rollbacks"]
    run.droplet_weight = state.values.get("droplet_weight", 0.0)  # an older fastnst had no penalty for them
    run.limited = state.values.get("droplets_limited", False)
    run.recent.clear()
    run.recent.extend(LossValues(*values) for values in state.values["recent"])
    torch.set_rng_state(tensors["random.cpu"])
    if run.device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], run.device)


def save(run: TrainingRun, state: TrainState, photographs: Crops[Any]) -> None:
    """Write the resume state, which is that of the run now, and the checkpoint, both atomically."""
    config = run.config
    held_out = [photographs.name(path) for path in photographs.held_out]
    seen = {
        "photographs": photographs.count,
        "photographs_digest": photographs.digest,
        "photographs_parts": dict(photographs.parts),
        "held_out": held_out,
        "unusable": {problem.place: problem.reason for problem in photographs.problems()},
    }
    save_state(config.state_path, TrainState(state.tensors, state.values | seen))
    save_checkpoint(config.output, run.net, _meta(run, int(state.values["step"]), held_out))


def _meta(run: TrainingRun, step: int, held_out: list[str]) -> CheckpointMeta:
    config = run.config
    names = ("content", "style", "tv", "total")
    return CheckpointMeta(
        preset=config.preset,
        net=run.net.config.to_json(),
        style={"name": config.style_name, "credit": config.credit},
        train=config.to_json(),
        weights=asdict(run.loss.weights),
        steps=step,
        images_seen=step * config.batch_size * run.ranks.count,
        losses={name: sum(getattr(losses, name) for losses in run.recent) / len(run.recent) for name in names},
        held_out=held_out,
    )


def resume(run: TrainingRun, photographs: Crops[Any]) -> int:
    """Take over the newest valid state of an interrupted run; the step to go on with, 0 if there is none.

    Raises UsageError if this is not the run that was interrupted, ModelError if all its states are damaged.
    """
    path = run.config.state_path
    newest = _newest_state(run.config) if run.ranks.first else None
    data = run.ranks.share(state_to_bytes(newest[1]) if newest else b"")  # other ranks may not see the file
    if not data:
        log.warning("nothing to resume at %s; training starts from the beginning", printable(path))
        return 0
    state = state_from_bytes(data, path)
    _check_state(run, state, photographs)
    restore(run, state)
    if run.config.micro_batch is None:
        run.memory.micro_batch = state.values["micro_batch"]
    if newest and newest[0] != path:
        move(newest[0], path)  # before the next save puts a damaged one in the place of this one
    photographs.keep_apart(state.values.get("held_out", []))
    now = photographs.count
    if (before := state.values.get("photographs", now)) != now:
        log.warning("there were %d photographs and are %d: the run goes on in another order", before, now)
    elif state.values.get("photographs_digest", photographs.digest) != photographs.digest:
        log.warning("the photographs are not those of the interrupted run: it goes on with these")
    return int(state.values["step"])


def _newest_state(config: TrainConfig) -> tuple[Path, TrainState] | None:
    failure = None
    for candidate in _states(config):
        if not candidate.exists():
            continue
        try:
            return candidate, load_state(candidate)
        except ModelError as error:
            log.warning("%s", error)
            failure = error
    if failure is not None:
        raise failure
    return None


def _check_state(run: TrainingRun, state: TrainState, photographs: Crops[Any]) -> None:
    values = state.values
    now = run.config.to_json()
    same = {"style": values["painting"] == run.style_digest or values["config"]["style"] == now["style"]}
    same["content"] = values.get("photographs_digest") == photographs.digest
    if not same["content"] and not isinstance(photographs, Photographs):
        raise _other_photographs(values.get("photographs_parts", {}), photographs)
    _check_options(values["config"], now | {name: values["config"][name] for name in _BY_CONTENT if same[name]})
    if values["ranks"] != run.ranks.count:
        raise UsageError(
            f"the interrupted run had {values['ranks']} processes but this one has {run.ranks.count}; "
            "start torchrun with as many, or use --overwrite to start again"
        )
    if values["painting"] != run.style_digest:
        raise UsageError(f"{printable(run.config.style)} is not the style of the interrupted run; give that one")
    step, steps = int(values["step"]), run.config.steps
    if step > steps:
        raise UsageError(f"--steps is {steps} but the interrupted run has done {step} already; give at least that")


def _other_photographs(before: dict[str, str], photographs: Crops[Any]) -> UsageError:
    """The order follows from all that is in tars or a list, which nobody changes but by mistake."""
    now = photographs.parts
    changed = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
    differences = {"changed": changed, "gone": sorted(before.keys() - now), "new": sorted(now.keys() - before)}
    told = "; ".join(
        f"{what}: {', '.join(map(printable, names[:3]))}{', ...' * (len(names) > 3)}"
        for what, names in differences.items()
        if names
    )
    return UsageError(
        f"{printable(photographs.source)} has not the photographs of the interrupted run"
        f"{f' ({told})' * bool(told)}; give those, or use --overwrite to start again"
    )


def _check_options(before: dict[str, Any], now: dict[str, Any]) -> None:
    """UsageError if a run with these options would not be the one with those before."""
    # An older fastnst knew fewer options, and did what is the default now, but for Adam; one had another name.
    before = {("temporal_weight" if name == "steadiness" else name): value for name, value in before.items()}
    before = {"optimizer": "adam", **before}
    before = {field.name: field.default for field in fields(TrainConfig) if field.name in now} | before
    before, now = ({**options, "vgg": PurePath(str(options["vgg"])).name} for options in (before, now))
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    if "steps" in changed and now["schedule"] != "constant":
        log.warning("--steps was %s and is %s: the learning rate follows the new number", before["steps"], now["steps"])
    if differences := sorted(changed - FREE_TO_CHANGE):
        listed = ", ".join(
            f"--{name.replace('_', '-')} was {before.get(name)}, is {now.get(name)}" for name in differences
        )
        raise UsageError(
            f"cannot resume with other options ({listed}); use the old ones, or --overwrite to start again"
        )


def description(run: TrainingRun, photographs: Crops[Any]) -> str:
    """What must be the same on all ranks."""
    named = FREE_TO_CHANGE | _BY_CONTENT
    config = {name: value for name, value in run.config.to_json().items() if name not in named}
    config["steps"] = run.config.steps
    held_out = sorted(map(photographs.name, photographs.held_out))
    sha = hashlib.sha256(json.dumps([config, run.style_digest, photographs.digest, held_out]).encode())
    for parameter in run.net.parameters():
        sha.update(_copy(parameter).numpy().tobytes())
    return sha.hexdigest()


def check_outputs(config: TrainConfig) -> None:
    """OutputError if the output, or a run of it, is there and the options do not say what to do with it."""
    interrupted = any(path.exists() for path in _states(config))
    if config.resume and not interrupted and config.output.exists() and not config.overwrite:
        raise OutputError(_nothing_to_resume(config))
    if interrupted and not (config.resume or config.overwrite):
        raise OutputError(
            f"a run of {printable(config.output)} is there already; --resume continues it, --overwrite starts again"
        )
    check_output(config.output, overwrite=config.overwrite or (config.resume and interrupted))


def _nothing_to_resume(config: TrainConfig) -> str:
    """How to go on from a checkpoint without its resume state, which must not be overwritten."""
    name = printable(config.output)
    try:
        steps = load_checkpoint(config.output)[1].steps
    except ModelError as error:
        return f"{error}; --resume needs {printable(config.state_path.name)} beside it, which is gone"
    finished = f"is finished after {steps} steps" if steps >= config.steps else f"was saved after {steps} steps"
    return (
        f"{name} {finished}, and its resume state, {printable(config.state_path.name)}, is gone; use it as it is, "
        f"or train on from it with --init {name}, without --resume and with another --output"
    )


def forget_state(config: TrainConfig) -> None:
    """Remove what an overwritten run left, or a later --resume would continue that one."""
    for path in _states(config):
        path.unlink(missing_ok=True)


def own_files(config: TrainConfig) -> list[Path]:
    """What the run writes, and no photographs if it is below their folder; logs may be right among them."""
    return [config.output, *_states(config), config.log_folder, config.log_folder / "previews"]


def _states(config: TrainConfig) -> tuple[Path, Path]:
    """Where the resume state and the one before it lie."""
    return config.state_path, previous_state(config.state_path)


def _copy(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and never the same memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
