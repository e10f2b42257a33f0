"""Import modules where the modules and signals of Unix are missing; prints how many signals are caught then.

Arguments: names of modules.
"""

import importlib
import signal
import sys

sys.modules.update(dict.fromkeys(["fcntl", "resource", "pwd", "grp", "termios"]))
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL"):
    delattr(signal, name)
for name in sys.argv[1:]:
    importlib.import_module(name.removesuffix(".__init__"))

from fastnst.interrupt import SIGNALS, caught_signals  # noqa: E402

with caught_signals():
    print(len(SIGNALS))
