import platform
import subprocess
import sys

import pytest
from helpers.material import PROGRAMS

from fastnst import device


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_freed_memory_is_used_again():
    def faults(mode: str) -> int:
        return int(
            subprocess.run([sys.executable, PROGRAMS / "page_faults.py", mode], capture_output=True, check=True).stdout
        )

    assert faults("keep") * 3 < faults("return")


@pytest.mark.parametrize(
    ("files", "expected", "threads"),
    [
        ({"cpu.max": "150000 100000\n"}, 2, 2),
        ({"cpu.max": "20000 100000\n"}, 1, 1),
        ({"cpu.max": "max 100000\n"}, 3, 0),
        ({"cpu.max": "6400000 100000\n"}, 3, 3),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, 0),
        ({}, 3, 0),
    ],
)
def test_the_limit_of_a_container_counts(files, expected, threads, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(device, "_LIMITS", tmp_path)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: {0, 1, 2})

    assert device.cores() == expected
    assert device.onnx_session_options().intra_op_num_threads == threads
