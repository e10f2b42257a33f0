"""How much memory stylizing takes, measured in a process of its own, whose peak nothing else has raised."""

import subprocess
import sys
from pathlib import Path

from fastnst.device import Device


def peak_memory(style: Path, size: int, device: Device = "auto") -> int | None:
    """Bytes of the largest resident set of a process that stylizes one square picture, the engine's packages included.

    None where the system does not tell, or the process did not live to tell.
    """
    command = [sys.executable, "-m", "fastnst.memory", str(style), str(size), device]
    done = subprocess.run(command, capture_output=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else None


def _own_peak() -> int | None:
    # Not getrusage, whose peak is that of the process which started this one, if it was larger.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _stylize(style: Path, size: int, device: Device) -> None:
    import numpy as np

    from fastnst.engine import open_engine

    open_engine(style, device=device)(np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32))


if __name__ == "__main__":
    _stylize(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])  # type: ignore[arg-type]
    sys.stdout.write(str(_own_peak() or ""))
