"""Run the command line where no file may have more than 20 kB."""

import resource
import signal

from fastnst.cli.main import run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
run()
