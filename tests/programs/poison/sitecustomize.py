"""Python starts with this where its folder is on PYTHONPATH: decoding a picture with the word in it ends the process.

So would a decoder with a bug, or the system when memory runs out.
"""

import os
import signal

from PIL import Image

WORD = b"poison" * 3

opened = Image.open


def deadly(file, *given, **options):
    if hasattr(file, "getvalue") and WORD in file.getvalue():
        os.kill(os.getpid(), signal.SIGKILL)
    return opened(file, *given, **options)


Image.open = deadly
