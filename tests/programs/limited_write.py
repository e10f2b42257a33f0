"""Write 5000 bytes where a file may have 1000; prints the error. Argument: the file."""

import resource
import sys
from pathlib import Path

from fastnst.errors import OutputError
from fastnst.files import write_bytes

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]), bytes(5000))
except OutputError as error:
    print(error)
