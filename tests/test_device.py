import platform
import subprocess
import sys

import pytest
from helpers.material import PROGRAMS


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_freed_memory_is_used_again():
    def faults(mode: str) -> int:
        return int(
            subprocess.run([sys.executable, PROGRAMS / "page_faults.py", mode], capture_output=True, check=True).stdout
        )

    assert faults("keep") * 3 < faults("return")
