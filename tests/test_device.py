import platform
import subprocess
import sys

import pytest

# New pages that the system had to give while 64 MB were taken and given back thirty times.
FAULTS = """
import resource, sys, torch
from fastnst.device import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.empty(1 << 24).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    torch.empty(1 << 24).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_freed_memory_is_used_again():
    def faults(mode: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, check=True).stdout)

    assert faults("keep") * 3 < faults("return")
