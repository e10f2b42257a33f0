"""One command line from its words to its exit status.

Results go to stdout, everything else to stderr. Exit statuses: 0 done, 1 finished but an item failed (or a bug), 2
wrong usage, 3 environment, 4 input, 5 output, 6 diverged, 130 and 143 interrupted.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

from cyclopts import CycloptsError, UnknownCommandError

from fastnst.cli import batch, explore, measure, merge, models, serve, stylize, train  # noqa: F401 (their commands)
from fastnst.cli.app import app
from fastnst.cli.unknown import asks_for_help, explain
from fastnst.errors import FastnstError, Interrupted, UnavailableError, UsageError
from fastnst.files import printable

# Optional packages -> the extra that brings them.
EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "train",
    "torchvision": "train",
    "tensorboard": "train",
    "onnx": "train",
    "onnxscript": "train",
    "safetensors": "train",
    "av": "video",
    "starlette": "serve",
    "uvicorn": "serve",
    "h11": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
    "ray": "batch",
    "fsspec": "batch",
    "pyarrow": "batch",
}

# Flags that had another name, which goes on working.
RENAMED = {"--steadiness": "--temporal-weight", "--painting": "--style-image"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    tokens = _spell_hyphens([_current_name(word) for word in (sys.argv[1:] if argv is None else argv)])
    _print_anything()
    verbose = "-v" in tokens or "--verbose" in tokens
    if os.environ.get("NO_COLOR"):
        from rich.console import Console

        app.console = Console(color_system=None)  # bold help is escape sequences too
    try:
        if not tokens:
            raise UsageError("no command given; see fastnst --help")
        if asks_for_help(tokens):
            tokens = [*(word for word in tokens if word.lower() != "help"), "--help"]
        return int(app(tokens, exit_on_error=False, print_error=False) or 0)
    except UnknownCommandError as error:
        return _fail(UsageError(explain(error, tokens)), verbose)
    except CycloptsError as error:
        return _fail(UsageError(printable(" ".join(str(error).split()).rstrip(".")) + "; see --help"), verbose)
    except FastnstError as error:
        return _fail(error, verbose)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            return _bug()
        missing = UnavailableError(
            f'this needs the package {error.name}, which is not installed; run: pip install "fastnst[{extra}]"'
        )
        return _fail(missing, verbose)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        return _fail(Interrupted(f"stopped by {signal.Signals(number).name}", number), verbose)
    except OSError as error:
        return _bug() if error.filename is not None or error.errno is None else _stdout_failed(error)
    except Exception:
        return _bug()


def run() -> NoReturn:
    """The console script: main, and a stdout that is flushed or given up without a traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    status = main()
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _stdout_failed(error)
    sys.exit(status)


def _print_anything() -> None:
    """What a console has no characters for is printed as \\u2713, which is better than no result."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _current_name(word: str) -> str:
    flag, equals, value = word.partition("=")
    return RENAMED.get(flag, flag) + equals + value


def _spell_hyphens(tokens: Sequence[str]) -> list[str]:
    """A lone hyphen, which cyclopts takes for an option, as -o=- or behind -- where it takes it for a name."""
    spelled: list[str] = []
    names: list[str] = []
    for word in tokens:
        if word == "-" and spelled and spelled[-1] in ("-o", "--output"):
            spelled[-1] += "=-"
        else:
            (names if word == "-" else spelled).append(word)
    return spelled + ["--"] * (bool(names) and "--" not in spelled) + names


def _fail(error: FastnstError, verbose: bool) -> int:
    print(f"fastnst: {error}", file=sys.stderr)
    if verbose:
        traceback.print_exc()
    return error.exit_status


def _stdout_failed(error: OSError) -> int:
    # What could not be written must not be tried again, with a complaint, while Python shuts down.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 1
    print(f"fastnst: cannot write to standard output: {error.strerror}; make room there", file=sys.stderr)
    return 5


def _bug() -> int:
    traceback.print_exc()
    print("fastnst: this is a bug in fastnst; please report it with the lines above", file=sys.stderr)
    return 1


def _terminated(number: int, _: object) -> None:
    # No Exception, which the handlers around decoders and engines would take for a damaged picture.
    raise KeyboardInterrupt(number)
