"""Stores that are no folders: a local S3 server, and the memory of the process."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

_numbers = itertools.count()


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server in this process, which s3:// means here and in the processes it starts meanwhile.

    Credentials and the server's address are in the environment, as wherever programs run that use S3.
    """
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    settings = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        with mock.patch.dict(os.environ, settings):
            yield address
    finally:
        server.stop()


def new_bucket() -> str:
    """The address of an empty bucket of the server: s3://bucket-3."""
    name = f"bucket-{next(_numbers)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A local S3 server; its address."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> str:
    """The address of an empty bucket."""
    return new_bucket()


@pytest.fixture
def memory() -> Iterator[str]:
    """The address of a folder in the memory of this process, empty at first."""
    store = fsspec.filesystem("memory")
    yield f"memory://folder-{next(_numbers)}"
    store.store.clear()
    store.pseudo_dirs[:] = [""]
