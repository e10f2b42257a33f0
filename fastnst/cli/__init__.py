"""The command line: it parses, calls one public function and prints; no image code here."""

from fastnst.cli.main import main, run

__all__ = ["main", "run"]
