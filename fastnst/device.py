"""Which device runs: "auto" takes what is there, a name that was given never falls back."""

import ctypes
import logging
import math
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fastnst.errors import UnavailableError
from fastnst.values import check_choice

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt

Device = Literal["auto", "cpu", "cuda"]

_onnx_threads = 0  # what ONNX Runtime takes for: as many as there are cores
_LIMITS = Path("/sys/fs/cgroup")  # of the container that this process is in


def torch_device(device: Device) -> "torch.device":
    """The torch device for a name; UnavailableError for "cuda" without a usable GPU, UsageError for another name."""
    check_choice("device", device, get_args(Device))
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        built = (
            "sees no NVIDIA GPU; check the driver"
            if torch.version.cuda
            else "was built without CUDA; install a CUDA build"
        )
        raise UnavailableError(
            f"--device cuda was asked for but torch {torch.__version__} {built}, or use --device cpu"
        )
    chosen = "cuda" if available and device != "cpu" else "cpu"
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())  # it does not look at the limit of a container
    log.info("torch runs on %s", chosen)
    return torch.device(chosen)


def pick_precision(precision: str, device: "torch.device") -> "torch.dtype":
    """The arithmetic of the convolutions: "auto" is bf16 where the hardware computes it, float32 elsewhere."""
    import torch

    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    check_choice("precision", precision, ("auto", *names))
    if precision != "auto":
        return names[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return (
        torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else torch.float32
    )


def autocast(device: "torch.device", dtype: "torch.dtype") -> "torch.autocast":
    """Compute convolutions in this arithmetic inside the block; float32 changes nothing."""
    import torch

    return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)


def onnx_runtime() -> Any:
    """ONNX Runtime, imported here and nowhere else: it observes nothing from here on, whoever imported it before."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where it was imported before fastnst, which sets the environment
    return onnxruntime


def cores() -> int:
    """How many this process may use, by the system and by a container's limit, of which a part counts as one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _limited_cores() or allowed)


def _limited_cores() -> int | None:
    """How many cores a container may use; None without a limit."""
    try:
        if (_LIMITS / "cpu.max").exists():
            quota, period = map(int, (_LIMITS / "cpu.max").read_text().split())
        else:  # of the first version of cgroups
            quota, period = (int((_LIMITS / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    except (OSError, ValueError):  # none, or "max"
        return None
    return math.ceil(quota / period) if quota > 0 and period > 0 else None


def onnx_session_options() -> Any:
    """Options for a session of ONNX Runtime, which says nothing and computes in the threads that limit_threads set."""
    options = onnx_runtime().SessionOptions()
    options.log_severity_level = 4
    # It counts cores itself, and rightly, but for the limit of a container.
    options.intra_op_num_threads = _onnx_threads or (cores() if _limited_cores() else 0)
    return options


def limit_threads(count: int) -> None:
    """Let networks that this process opens from now on compute in so many threads; 0 is one for each core."""
    global _onnx_threads
    _onnx_threads = count
    if count and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    elif count:
        os.environ["OMP_NUM_THREADS"] = str(count)  # torch reads it once it is imported


@cache
def share_onnx_memory() -> None:
    """Make the memory that sessions of ONNX Runtime share if they are told to (session.use_env_allocators)."""
    runtime = onnx_runtime()
    arena = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", arena, 0, runtime.OrtMemType.DEFAULT), None)


def onnx_providers(device: Device) -> list[str]:
    """ONNX Runtime's execution providers for a name; UnavailableError if "cuda" is not among those installed.

    UsageError for another name.
    """
    check_choice("device", device, get_args(Device))
    available = "CUDAExecutionProvider" in onnx_runtime().get_available_providers()
    if device == "cuda" and not available:
        raise UnavailableError(
            "--device cuda was asked for but this ONNX Runtime has no CUDA provider; "
            'run: pip uninstall onnxruntime && pip install --force-reinstall "fastnst[gpu]"'
        )
    if available and device != "cpu":
        return ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "auto" else ["CUDAExecutionProvider"]
    return ["CPUExecutionProvider"]


def keep_freed_memory(keep: bool = True) -> None:
    """Let the C library hand freed memory out again instead of returning it to the system, or return it from now on.

    glibc gives every large block back at once, and a training step, which asks for the same blocks again, then spends
    a sixth of its time on new pages. Elsewhere than on Linux with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    library.mallopt(M_TRIM_THRESHOLD, 2_000_000_000 if keep else 128 << 10)
    library.mallopt(M_MMAP_MAX, 0 if keep else 65_536)
    if not keep:
        library.malloc_trim(0)


def free_memory() -> int | None:
    """Bytes this process may still take, by the system and by a container's limit; None where nobody says."""
    try:
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = int((_LIMITS / "memory.max").read_text()) - int((_LIMITS / "memory.current").read_text())
    except (OSError, ValueError):  # none, or "max"
        return free
    return min(free, limit)
