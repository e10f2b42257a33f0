"""A Ray cluster to paint on: one of this machine that ends with the run, or another that is asked if it answers."""

import json
import logging
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import fastnst
from fastnst.batch import guardian
from fastnst.config import BatchOptions
from fastnst.config.batch import LOCAL
from fastnst.device import cores
from fastnst.errors import UnavailableError, UsageError, first_line
from fastnst.files import printable

log = logging.getLogger(__name__)

ANSWERS_WITHIN = 20.0  # seconds
_VERSION_WITHIN = 300.0  # seconds: a cluster that grows when it is needed has to start a machine first
_OBJECT_STORE = 100 << 20  # bytes: only names and rows pass through it
_LONGEST = 40  # characters of the folder of a cluster: sockets in it may have 107

# Nothing is reported to anybody, and Ray's own progress and logs are not those of a run.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

# Run by another process, because Ray waits for a cluster that does not answer much longer, and cannot be told not to.
_PROBE = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
print(ray.cluster_resources() is not None)
"""


@dataclass(frozen=True)
class Cluster:
    """What a cluster has for this run: so many processes with so many cores and GPUs each."""

    actors: int
    cpus: float
    gpus: float


@contextmanager
def open_cluster(options: BatchOptions, *, wants_gpu: bool) -> Iterator[Cluster]:
    """Start a cluster of this machine, or join another; it is left, or ends, with the block.

    Raises UnavailableError if it does not answer or has no fastnst of this version, UsageError if not one process
    fits into it, ModuleNotFoundError if Ray is not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(_environment(_QUIET))
        if options.address == LOCAL:
            folder = stack.enter_context(_guarded_folder())
            stack.enter_context(_environment(_private(folder)))
            started = {"address": "local", **_local(options, folder)}
        else:
            _check_answers(options.address)
            started = {"address": options.address}
        ray = _import_ray()
        try:
            stack.enter_context(_started(ray, started))
        except SystemExit as error:  # what Ray makes of SIGTERM while it starts
            raise KeyboardInterrupt(signal.SIGTERM) from error
        except Exception as error:
            raise UnavailableError(f"no Ray cluster could be started: {printable(first_line(error))}") from error
        if options.address != LOCAL:
            _check_version(ray)
        yield shares(options, ray.cluster_resources(), wants_gpu=wants_gpu)


def _import_ray() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


@contextmanager
def _started(ray: Any, given: Mapping[str, Any]) -> Iterator[None]:
    with warnings.catch_warnings(), _stderr_closed(), _handlers_kept():
        warnings.simplefilter("ignore")
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **given)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with suppress(AttributeError):  # what it tells of workers that end, which are none of a user's business
        ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        with _stderr_closed():
            ray.shutdown()


def _local(options: BatchOptions, folder: str) -> dict[str, Any]:
    """How Ray starts on this machine alone: no dashboard, a small store, on a disk where /dev/shm is small."""
    given: dict[str, Any] = {
        "num_cpus": max(cores(), math.ceil((options.actors or 1) * options.cpus_per_actor)),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
        "_temp_dir": folder,
        "_node_ip_address": "127.0.0.1",
    }
    try:
        small = shutil.disk_usage("/dev/shm").free < 2 * _OBJECT_STORE  # noqa: S108
    except OSError:
        small = True
    if small:
        given["_plasma_directory"] = folder
    return given


def _private(folder: str) -> dict[str, str]:
    """A cluster of this machine is for this run alone: it listens to this machine only, and to who has its token."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # in spite of its name: everything on 127.0.0.1
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",  # of 15, which lets everything else on this machine go first
        "TMPDIR": folder,  # what actors have in hand when they are killed goes with the cluster
        "FASTNST_CLUSTER": folder,  # by which the guardian knows its processes
    }


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _guarded_folder() -> Iterator[str]:
    """A folder for a cluster, whose processes end and which is removed even if this process is killed."""
    parent = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="fastnst.", dir=parent if len(parent) <= _LONGEST or os.name == "nt" else "/tmp")  # noqa: S108
    command = [sys.executable, "-I", "-S", guardian.__file__, folder]
    watching = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield folder
    finally:
        assert watching.stdin is not None
        watching.stdin.close()
        watching.wait()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray handles signals in its own way; here they mean what they meant before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """What the libraries of Ray print around Python is lost."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_answers(address: str) -> None:
    """UnavailableError unless a cluster answers in time."""
    import ray  # noqa: F401 (missed here, not by the other process)

    command = [sys.executable, "-c", _PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWERS_WITHIN, check=False)
    except subprocess.TimeoutExpired:
        why = f"in {ANSWERS_WITHIN:g} seconds"
    else:
        if done.returncode == 0:
            return
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"({printable(lines[-1][:200])})" if lines else ""
        log.info("%s", done.stderr.decode(errors="replace"))
    raise UnavailableError(
        f"no Ray cluster answers at {printable(address)} {why}; check the address and RAY_AUTH_TOKEN, "
        "or leave --address out for a cluster of this machine".replace("  ", " ")
    )


def _check_version(ray: Any) -> None:
    """UnavailableError unless the cluster has this version of fastnst."""

    def version() -> str:
        import fastnst

        return fastnst.__version__

    try:
        found = ray.get(ray.remote(version).options(num_cpus=0).remote(), timeout=_VERSION_WITHIN)
    except Exception as error:
        missing = "No module named" in str(error)
        why = "has no fastnst" if missing else f"does no work ({printable(first_line(error)[:200])})"
        raise UnavailableError(f"the cluster {why}; start it from an image with fastnst[batch]") from error
    if found != fastnst.__version__:
        raise UnavailableError(
            f"the cluster has fastnst {found} but this is {fastnst.__version__}; use the same version on both"
        )


def shares(options: BatchOptions, resources: Mapping[str, float], *, wants_gpu: bool) -> Cluster:
    """What of a cluster's resources each process gets, and how many fit; UsageError if not one does."""
    cpus, gpus = options.cpus_per_actor, options.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if wants_gpu else 0.0
    fits = math.floor(resources.get("CPU", 0) / cpus + 1e-9)
    if gpus:
        fits = min(fits, math.floor(resources.get("GPU", 0) / gpus + 1e-9))
    if fits < 1 and options.actors is None:
        has = json.dumps({name: resources.get(name, 0) for name in ("CPU", "GPU")})
        raise UsageError(
            f"the cluster has {has}, where no process with {cpus:g} cores and {gpus:g} GPUs fits; "
            "lower --cpus-per-actor or --gpus-per-actor, or give --actors for a cluster that grows"
        )
    return Cluster(options.actors or fits, cpus, gpus)
