"""Stores behind addresses: opened once, asked again while they do not answer, and what they say as one sentence."""

import errno
import os
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastnst.errors import FastnstError, StorageError, UnavailableError, UsageError, first_line
from fastnst.files import printable

T = TypeVar("T")

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # one letter before the colon is a drive of Windows

_PAUSES = (0.5, 1.0, 2.0)  # seconds between the tries of one request
_PATIENCE = 15.0  # seconds after which none is begun again; with the last one, about 20
_ANSWER = 10  # seconds that S3 has for the next bytes, and half of them to connect
_SLOWEST = 200_000  # bytes a second that are uploaded at least

# What comes of a request that will not go well another time.
_FINAL = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL),
    *(errno.ELOOP, errno.EEXIST, errno.ENOSYS, errno.EMSGSIZE),
}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR}
# What S3 says of credentials that have ended, or never were any.
_REFUSED = {
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("RequestTimeTooSkewed", "InvalidSecurity", "MissingSecurityHeader"),
}
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
    "hf": "huggingface_hub",
    "oss": "ossfs",
}
# Where an object is there whole or not at all; elsewhere it is moved into its place.
_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}
# Where one connection serves all addresses; elsewhere one for each host.
_ONE_FOR_ALL = {*_WHOLE, "http", "https", "hf"}

_open: dict[tuple[int, str, str], Any] = {}
_opening = threading.Lock()


def store_of(address: str) -> tuple[Any, str]:
    """The file system of fsspec for an address, and what the file is called there.

    Raises UsageError for a scheme that nothing is known of, UnavailableError if its package is missing.
    """
    scheme, place = _parts(address)
    host = "" if scheme in _ONE_FOR_ALL else place.partition("/")[0]
    # By process: what a forked one inherits of connections cannot be used.
    key = (os.getpid(), scheme, host)
    with _opening:
        if key not in _open:
            _open[key] = _opened(scheme, address)
        store = _open[key]
    return store, str(store._strip_protocol(address))


def _parts(address: str) -> tuple[str, str]:
    match = ADDRESS.match(address)
    if match is None:
        raise UsageError(f"{printable(address)} is no address such as s3://bucket/name; give one, or a local path")
    return match[1].lower(), address[match.end() :]


def _opened(scheme: str, address: str) -> Any:
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise _missing(scheme, address) from error
    except ValueError as error:
        raise UsageError(
            f"{printable(address)} begins with {scheme}://, which fsspec does not know; "
            "give a local path, or an address such as s3://bucket/name"
        ) from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in ("s3", "s3a"):
        # Tried again here, not there, so that a store that does not answer is given up in time.
        timeouts = {"connect_timeout": _ANSWER // 2, "read_timeout": _ANSWER, "retries": {"max_attempts": 0}}
        options["config_kwargs"] = {**timeouts, "max_pool_connections": 64}
    try:
        store = kind(**{**kind._get_kwargs_from_urls(address), **options})
    except ImportError as error:
        raise _missing(scheme, address) from error
    except Exception as error:
        raise told(error, address, StorageError) from error
    if hasattr(store, "retries"):
        store.retries = 1
    return store


def _missing(scheme: str, address: str) -> UnavailableError:
    package = _PACKAGES.get(scheme)
    remedy = f"pip install {package}" if package else f"install the one that fsspec names for {scheme}://"
    return UnavailableError(f"{printable(address)} needs a package that is not installed; {remedy}")


def send(store: Any, method: str, size: int, *arguments: object) -> None:
    """Call a method that uploads so many bytes, and give up when that takes far too long.

    With S3 a server that never says that it is ready for them would be waited for forever.
    """
    from fsspec.asyn import AsyncFileSystem, sync

    if isinstance(store, AsyncFileSystem):
        sync(store.loop, getattr(store, "_" + method), *arguments, timeout=1.5 * _ANSWER + size / _SLOWEST)
    else:
        getattr(store, method)(*arguments)


def is_whole(address: str) -> bool:
    """Whether a file of this store is there whole or not at all, whoever writes it."""
    return _parts(address)[0] in _WHOLE


def asked(place: str, request: Callable[[], T], refused: type[FastnstError]) -> T:
    """What a request of a local or remote file gives, tried a few times while it might still go well.

    Raises `refused` if it never will, StorageError if it did not in time, UnavailableError without credentials.
    """
    began = time.monotonic()
    for pause in (*_PAUSES, None):
        try:
            return request()
        except FastnstError:
            raise
        except Exception as error:
            if pause is None or not _may_pass(error) or time.monotonic() - began > _PATIENCE:
                raise told(error, place, refused) from error
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (so that many do not come again at once)
    raise AssertionError


def _may_pass(error: Exception) -> bool:
    """Whether the same request may go well a moment later."""
    if _lacks_credentials(error) or isinstance(error, (ImportError, ValueError, NotImplementedError)):
        return False
    if isinstance(error, OSError) and (error.errno in _FINAL or isinstance(error, _by_errno)):
        return False
    status = getattr(error, "status", None)  # of HTTP
    return not (isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429))


# What fsspec raises without a number.
_by_errno = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)


def told(error: Exception, place: str, refused: type[FastnstError]) -> FastnstError:
    """The sentence for what a store, or a disk, raised."""
    name = printable(place)
    does = "written" if refused.code == "output" else "read"
    if isinstance(error, ImportError):
        return _missing(_parts(place)[0], place)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
        return UnavailableError(
            f"{name} cannot be {does}: no credentials are found; give them in the environment or in the usual file"
        )
    if _lacks_credentials(error):
        return StorageError(f"{name} cannot be {does}: the credentials are refused; renew them and run it again")
    if is_not_there(error):
        return refused(f"{name} is not there; check the name")
    reason = " ".join((getattr(error, "strerror", None) or first_line(error)).split())[:200].rstrip(".")
    if not _may_pass(error):
        return refused(f"{name} cannot be {does}: {printable(reason)}; check the name and the permissions")
    return StorageError(
        f"{name} cannot be {does} now: {printable(reason)}; see that it can be reached, and run it again"
    )


def is_not_there(error: BaseException) -> bool:
    """Whether an error says that there is no such file."""
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return missing or getattr(error, "errno", None) in _NOT_THERE or getattr(error, "status", None) in (404, 410)


def _lacks_credentials(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code in _REFUSED or "Credentials" in type(error).__name__
