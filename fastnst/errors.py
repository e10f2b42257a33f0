"""What can go wrong, as a few classes that carry an exit status, an HTTP status and a word for programs.

Messages are one sentence: what was given, what is needed, what to do.
"""


class FastnstError(Exception):
    """Anything a user can be told in one sentence."""

    exit_status = 1
    http_status = 500
    code = "internal"


class UsageError(FastnstError):
    """An option or argument that is invalid."""

    exit_status = 2
    http_status = 400
    code = "bad_request"


class UnavailableError(FastnstError):
    """A device, a backend or an optional package that this environment lacks."""

    exit_status = 3
    code = "environment"


class InputError(FastnstError):
    """An input that cannot be used: damaged, too large, too small, not there."""

    exit_status = 4
    http_status = 422
    code = "unusable_input"


class SizeError(InputError):
    """A picture of more or fewer pixels than can be painted."""

    code = "image_dimensions"


class UnsupportedFormatError(InputError):
    """Bytes that are not one of the picture formats fastnst reads."""

    http_status = 415
    code = "unsupported_format"


class ModelError(InputError):
    """A style or checkpoint file that is damaged, foreign or not what it claims."""

    http_status = 503
    code = "model_unusable"


class UnsafeModelError(ModelError):
    """A model file that could run code or read other files."""

    code = "model_unsafe"


class OutputError(FastnstError):
    """An output that exists already or cannot be written."""

    exit_status = 5
    code = "output"


class StorageError(FastnstError):
    """A store or a network that did not answer in several tries; the same may succeed later."""

    http_status = 503
    code = "storage"


class DivergedError(FastnstError):
    """Training that met a loss or gradient that is not a number."""

    exit_status = 6
    code = "diverged"


class StoppedError(FastnstError):
    """Painting that another thread ended before it was done."""

    http_status = 503
    code = "stopped"


class Interrupted(FastnstError):
    """Work stopped by a signal after everything worth keeping was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or the name of its class if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
