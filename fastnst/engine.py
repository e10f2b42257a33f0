"""One trained style as a callable, run by torch or by ONNX Runtime behind one interface with numpy at the boundary."""

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np

from fastnst.config import EngineName, OnnxOptions
from fastnst.device import (
    Device,
    onnx_providers,
    onnx_runtime,
    onnx_session_options,
    share_onnx_memory,
    torch_device,
)
from fastnst.errors import (
    FastnstError,
    ModelError,
    StoppedError,
    UnavailableError,
    UnsafeModelError,
    UsageError,
    first_line,
)
from fastnst.files import printable, refuse_address
from fastnst.foreign.onnx_style import Adapter, End
from fastnst.image import Array
from fastnst.meta import CheckpointMeta
from fastnst.nets.bands import BandedNetwork
from fastnst.nets.onnx_graph import build, read_weights
from fastnst.nets.onnx_proto import check_onnx, read_onnx
from fastnst.nets.single_layers import OnnxLayers, TorchLayers
from fastnst.nets.spec import NetConfig, Weights, layers
from fastnst.styles import DEFAULT_STYLE, bundled_style
from fastnst.values import check_choice, in_words

log = logging.getLogger(__name__)

_LARGE = 3 * 1_500_000  # values of a picture
RELATED = 0.5  # likeness of networks that mix; the bundled ones have 0.6 and more, strangers about 0


class Stop:
    """Ends what an engine paints, from another thread, once and for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self.is_set = False

    def set(self) -> None:
        """End what runs now, and whatever would begin later."""
        with self._lock:
            self.is_set = True
            for end in self._ends:
                end()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """The block is work that `end` ends; it is called at once if this is set already."""
        with self._lock:
            self._ends.append(end)
            if self.is_set:
                end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)


class Engine(Protocol):
    """Runs one trained style: (N, 3, H, W) float32 RGB 0..1 -> same shape and range, any H and W of at least 16."""

    def __call__(self, images: Array, stop: Stop | None = None) -> Array:
        """StoppedError if it was stopped: ONNX Runtime between two layers, torch not before it is done."""
        ...

    @property
    def meta(self) -> CheckpointMeta:
        """What the style's file says of it; ModelError for a file of another project, which says nothing."""
        ...

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes it."""
        ...

    @property
    def banded(self) -> BandedNetwork:
        """The same for pictures of any size; UsageError if this style cannot be taken apart into its layers."""
        ...

    def with_weights(self, weights: Weights) -> "Engine":
        """The same network with others."""
        ...


def open_engine(
    style: str | Path | None = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    options: OnnxOptions | None = None,
) -> Engine:
    """Open a bundled style by name, or a .safetensors or .onnx file; no style is the default one.

    "auto" takes ONNX Runtime where an ONNX file and the package are there, else torch. The options are for .onnx files
    of other projects.

    Raises UsageError for an unknown name or options that are for another file, ModelError or UnsafeModelError for an
    unusable file, UnavailableError for a device that is not there, ModuleNotFoundError for an engine that is not
    installed.
    """
    check_choice("engine", engine, get_args(EngineName))
    check_choice("device", device, get_args(Device))
    if not isinstance(style, (str, os.PathLike, type(None))):
        raise UsageError(f"a style is {in_words(style)} but must be the name of a bundled one or a path")
    if not isinstance(options, (OnnxOptions, type(None))):
        raise UsageError(f"onnx is {in_words(options)} but must be OnnxOptions")
    path = _find(DEFAULT_STYLE if style is None else style, engine)
    log.info("style %s", printable(path))
    if path.suffix == ".onnx":
        return OnnxEngine(path, device, options)
    _check_unused(options, path)
    return TorchEngine(path, device)


def mixed(engines: Sequence[Engine], shares: Sequence[float], names: Sequence[object]) -> Engine:
    """One network between several, each weight the mean of theirs; shares are made to sum to 1.

    It gives what lies between the styles, in one pass, if they were trained from one another or from the same start;
    the weights of others have nothing to do with each other. Source: Wang et al. 2019, "Deep network interpolation for
    continuous imagery effect transition". Differs: kernels that a norm follows are brought to one length first. It
    changes no picture and grows in training, so that the style that was trained for longest would have more than its
    share.

    Raises UsageError for shares that are no shares, or styles that do not mix.
    """
    numbers = all(isinstance(share, (int, float, np.number)) and 0 <= share < np.inf for share in shares)
    if len(shares) != len(engines) or not numbers or not sum(shares) > 0:
        given = ", ".join(f"{share:g}" if isinstance(share, (int, float)) else in_words(share) for share in shares)
        raise UsageError(f"--mix is {given} but must be one share for each of the {len(engines)} styles: 0.7,0.3")
    first, *others = networks = [engine.banded for engine in engines]
    for name, other in zip(names[1:], others, strict=True):
        both = f"{printable(names[0])} and {printable(name)}"
        if replace(other.config, margin=first.config.margin) != first.config:
            raise UsageError(f"{both} are networks of different shapes, which do not mix; give styles of one preset")
        if _likeness(first.weights, other.weights) < RELATED:
            raise UsageError(
                f"{both} were not trained from the same start, so their weights do not mix; train one of them with "
                "--init from the other"
            )
    total = sum(shares)
    every = [_as_long_as(first.weights, network.weights, network.config) for network in networks]
    return engines[0].with_weights(
        {
            name: sum(
                (np.float32(share / total) * weights[name] for share, weights in zip(shares, every, strict=True)),
                start=np.zeros_like(values),
            )
            for name, values in first.weights.items()
        }
    )


def _as_long_as(first: Weights, weights: Weights, config: NetConfig) -> Weights:
    """The weights with kernels as long as those of the first, where a norm makes that the same network."""
    kernels = [layer.weight for layer in layers(config) if layer.norm is not None]
    times = {name: _length(first[name]) / max(_length(weights[name]), 1e-30) for name in kernels}
    return {name: np.float32(times.get(name, 1)) * values for name, values in weights.items()}


def _length(kernel: Array) -> float:
    return float(np.linalg.norm(kernel))


def _likeness(a: Weights, b: Weights) -> float:
    """Cosine of the angle between the kernels of two networks."""
    one, two = (
        np.concatenate([weights[name].ravel() for name in sorted(a) if a[name].ndim == 4]) for weights in (a, b)
    )
    return float(one @ two / max(np.sqrt((one @ one) * (two @ two)), 1e-30))


class OnnxEngine:
    """A style in ONNX Runtime.

    fastnst's own files take float (N, 3, H, W) 0..1 or uint8 (N, H, W, 3), and nothing about them is guessed; those of
    other projects go through an adapter.
    """

    def __init__(
        self,
        path: Path,
        device: Device = "auto",
        options: OnnxOptions | None = None,
        data: bytes | None = None,
        frugal: bool = False,
    ) -> None:
        """Load the file, or `data` that would be in it.

        Frugal engines, of which a process may have many, compute in the same memory, one at a time, and give back what
        a large picture took.
        """
        self.path, self.asked, self.frugal = path, device, frugal
        self.data, file = read_onnx(path) if data is None else (data, check_onnx(data, path))
        self.metadata = file.metadata
        self.session = _session(self.data, device, path, frugal)
        self.input, self.uint8 = self.session.get_inputs()[0].name, False
        self.adapter: Adapter | None = None
        self._current = threading.local()  # the Stop of the picture that a thread paints
        takes, gives = _ends(self.session, path)
        if "fastnst" in self.metadata:
            _check_unused(options, path)
            self.uint8 = _signature(takes, gives, path)
            self._self_test(path)
        else:
            self.adapter = Adapter(self._run, takes, gives, options or OnnxOptions(), self.metadata, path)

    def __call__(self, images: Array, stop: Stop | None = None) -> Array:
        self._current.stop = stop or Stop()
        if self.adapter is not None:
            return self.adapter(images)
        given: Any = images
        if self.uint8:
            given = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        stylized = self._run(given)
        if self.uint8:
            stylized = stylized.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        return np.asarray(stylized, dtype=np.float32)

    @cached_property
    def meta(self) -> CheckpointMeta:
        return CheckpointMeta.from_json(self.metadata.get("fastnst", ""), self.path)

    @cached_property
    def banded(self) -> BandedNetwork:
        if "fastnst" not in self.metadata:
            raise UsageError(
                f"{printable(self.path)} was not exported by fastnst and can only paint whole pictures; use a smaller "
                "--max-size, or turn its original into a checkpoint with fastnst import"
            )
        try:
            config = NetConfig(**self.meta.net)
            weights = read_weights(config, self.data)
        except (TypeError, ValueError, UsageError) as error:
            raise ModelError(
                f"{printable(self.path)} does not name its layers ({error}); export the style again"
            ) from error
        return BandedNetwork(config, weights, OnnxLayers(weights, self.session.get_providers()))

    @property
    def on_gpu(self) -> bool:
        return bool(self.session.get_providers()[0] == "CUDAExecutionProvider")

    def with_weights(self, weights: Weights) -> "OnnxEngine":
        data = build(self.banded.config, weights, metadata=self.metadata)
        return OnnxEngine(self.path, self.asked, data=data, frugal=self.frugal)

    def _run(self, given: Any) -> Any:
        """The network alone, in its own types."""
        stop: Stop = getattr(self._current, "stop", None) or Stop()
        options = onnx_runtime().RunOptions()
        options.log_severity_level = 4
        if self.frugal and given.size > _LARGE:
            arenas = [
                {"CPUExecutionProvider": "cpu:0", "CUDAExecutionProvider": "gpu:0"}[name]
                for name in self.session.get_providers()
            ]
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", ";".join(arenas))
        try:
            with stop.ending(lambda: setattr(options, "terminate", True)):
                return self.session.run(None, {self.input: given}, options)[0]
        except Exception as error:
            if stop.is_set:
                raise StoppedError("painting was stopped") from error
            shape = ", ".join(map(str, given.shape))
            raise FastnstError(f"ONNX Runtime failed on a picture ({shape}): {_reason(error)}") from error

    def _self_test(self, path: Path) -> None:
        ramp = np.linspace(0, 1, 3 * 18 * 21, dtype=np.float32).reshape(1, 3, 18, 21)
        try:
            stylized = self(ramp)
        except FastnstError as error:
            raise ModelError(
                f"{printable(path)} does not paint a test picture ({error}); export the style again"
            ) from error
        if stylized.shape != ramp.shape or not np.isfinite(stylized).all():
            raise ModelError(
                f"{printable(path)} paints a test picture of another size or without finite values; "
                "export the style again"
            )


class TorchEngine:
    """A checkpoint in torch, float32."""

    def __init__(self, path: Path, device: Device = "auto") -> None:
        import torch

        from fastnst.checkpoint import load_checkpoint

        self.path, self.asked = path, device
        net, self.meta = load_checkpoint(path)
        self.device = torch_device(device)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Array, stop: Stop | None = None) -> Array:
        import torch

        with torch.inference_mode():
            content = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
            stylized: Array = self.net(content).clamp(0, 1).cpu().numpy()
        if stop is not None and stop.is_set:
            raise StoppedError("painting was stopped")
        return stylized

    @cached_property
    def banded(self) -> BandedNetwork:
        weights = {name: values.cpu().numpy() for name, values in self.net.state_dict().items()}
        return BandedNetwork(self.net.config, weights, TorchLayers(weights, self.device))

    @property
    def on_gpu(self) -> bool:
        return bool(self.device.type == "cuda")

    def with_weights(self, weights: Weights) -> "TorchEngine":
        import torch

        other = TorchEngine(self.path, self.asked)
        other.net.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
        return other


def _find(style: str | Path, engine: EngineName) -> Path:
    """The file to open for a name or a path and an engine."""
    refuse_address(style)
    path = Path(style)
    kind = path.suffix
    if kind in (".pth", ".pt", ".pkl", ".model"):
        raise UnsafeModelError(
            f"{printable(path)} is a pickle, which can run code; give a .safetensors or .onnx file, "
            "or make one with: fastnst import"
        )
    if kind in (".onnx", ".safetensors"):
        if (engine, kind) in (("torch", ".onnx"), ("onnx", ".safetensors")):
            remedy = "give the .safetensors file" if engine == "torch" else "export it first with: fastnst export"
            raise UsageError(f"--engine {engine} cannot run {printable(path)}; {remedy}")
        return path
    if path.parent != Path() or os.path.lexists(path):
        raise ModelError(f"{printable(path)} is no style; give a bundled name, a .safetensors or an .onnx file")
    bundled = bundled_style(str(style))
    choice = {"torch": bundled.checkpoint, "onnx": bundled.onnx}
    if engine == "auto":
        # Where neither is installed the light one is missed, and said so.
        only_torch = not importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("torch")
        engine = "torch" if only_torch else "onnx"
    return choice[engine]


def _session(data: bytes, device: Device, path: Path, frugal: bool) -> Any:
    """ONNX Runtime with a network loaded; UnavailableError without the device that was asked for."""
    onnxruntime = onnx_runtime()
    options = onnx_session_options()
    # Between two pictures the cores are for those who read and write them.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if frugal:
        share_onnx_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    providers = onnx_providers(device)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=0)
    except Exception as error:  # its exception classes share no base but Exception
        if device == "cuda" and "CUDA" in str(error):
            raise UnavailableError(
                f"ONNX Runtime could not start CUDA ({_reason(error)}); check CUDA and cuDNN"
            ) from error
        raise ModelError(f"{printable(path)} cannot be run ({_reason(error)}); export the style again") from error
    if device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise UnavailableError("--device cuda was asked for but ONNX Runtime could not start it; check CUDA and cuDNN")
    log.info("ONNX Runtime runs on %s", session.get_providers()[0])
    return session


def _reason(error: Exception) -> str:
    return printable(first_line(error)[:200])


def _ends(session: Any, path: Path) -> tuple[End, End]:
    """What goes in and what comes out; ModelError unless each is one."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{printable(path)} has {len(inputs)} inputs and {len(outputs)} outputs but a style has one of each"
        )
    return End(inputs[0].type, inputs[0].shape), End(outputs[0].type, outputs[0].shape)


def _signature(takes: End, gives: End, path: Path) -> bool:
    """Whether an exported style takes uint8; ModelError unless it takes a picture of any size and gives the same."""
    if gives.type != takes.type:
        raise ModelError(f"{printable(path)} turns {takes.type} into {gives.type} but a style returns what it takes")
    layouts: dict[str, Callable[[Any], bool]] = {
        "tensor(float)": lambda s: (
            len(s) == 4 and s[1] == 3 and not isinstance(s[2], int) and not isinstance(s[3], int)
        ),
        "tensor(uint8)": lambda s: (
            len(s) == 4 and s[3] == 3 and not isinstance(s[1], int) and not isinstance(s[2], int)
        ),
    }
    if takes.type not in layouts or not layouts[takes.type](takes.shape):
        raise ModelError(
            f"{printable(path)} takes {takes.type} {takes.shape} but a style of fastnst takes float (N, 3, H, W) or "
            "uint8 (N, H, W, 3), any size; export it again"
        )
    return takes.type == "tensor(uint8)"


def _check_unused(options: OnnxOptions | None, path: Path) -> None:
    if options not in (None, OnnxOptions()):
        raise UsageError(f"--onnx-... options are for .onnx styles of other projects, which {printable(path)} is not")
