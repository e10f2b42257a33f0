"""`python -m fastnst` is the command line."""

from fastnst.cli import run

run()
