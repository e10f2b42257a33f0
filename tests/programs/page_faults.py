"""New pages that the system had to give while 64 MB were taken and given back thirty times.

Argument: keep (freed memory), or return.
"""

import resource
import sys

import torch

from fastnst.device import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.empty(1 << 24).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    torch.empty(1 << 24).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
