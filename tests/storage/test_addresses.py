import os
import pickle
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fastnst.errors import InputError, OutputError, StorageError, UnavailableError, UsageError
from fastnst.storage import remote, remote_files
from fastnst.storage.addresses import (
    exists,
    fetch,
    is_remote,
    join,
    list_files,
    local_path,
    open_input,
    read,
    remove,
    upload,
    version,
    write,
)

ODD = [
    "a b.jpg",
    "ü/ñ 日本.jpg",
    "100%.jpg",
    "a#b.jpg",
    "-x.jpg",
    "a+b&c=d.jpg",
    'it\'s "so".jpg',
    "(1) [2] {3}.jpg",
    "x" * 200 + ".jpg",
    "a\\b.jpg",
]


@pytest.fixture(params=["local", "memory", "bucket"])
def folder(request, tmp_path):
    """A folder of each kind: local, in memory, on an S3 server."""
    if request.param == "local":
        return str(tmp_path)
    return request.getfixturevalue(request.param) + "/in"


@contextmanager
def elsewhere(monkeypatch, endpoint):
    """S3 is at another address, for connections that are made from now on."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(remote, "_open", {})
    yield
    monkeypatch.undo()


@contextmanager
def serving(status, body=b"", failures=0, times=10**9):
    """An HTTP server that answers with a status; with 500 the first few times. Yields its address and the requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(500 if len(requests) <= failures else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "name", ["s3://bucket/a.jpg", "memory://a", "gs://b", "https://host/a.jpg?b=c", "S3://b/x", "s3a://b/"]
)
def test_addresses_are_told(name):
    assert is_remote(name)


@pytest.mark.parametrize(
    "name", ["a.jpg", "/a/b.jpg", "C:/a.jpg", "c://a", "file:///a.jpg", "a:b", "s3:/b/x", "", "\0"]
)
def test_paths_are_no_addresses(name):
    assert not is_remote(name)


def test_a_local_file_counts_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:/b").mkdir(parents=True)
    Path("s3:/b/x").write_bytes(b"local")

    assert not is_remote("s3://b/x")
    assert read("s3://b/x") == b"local"


@pytest.mark.parametrize("name", ["zip://a.jpg::s3://b/c.zip", "simplecache::s3://b/x", "zip://x::memory://y"])
def test_addresses_within_addresses_are_refused(name):
    with pytest.raises(UsageError, match="within another"):
        is_remote(name)


def test_local_addresses_are_paths(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")

    assert local_path(f"file://{tmp_path}/a.jpg") == f"{tmp_path}/a.jpg"
    assert read(f"file://{tmp_path}/a.jpg") == b"a"
    assert exists(f"file://{tmp_path}/a.jpg")


@pytest.mark.parametrize("name", ODD)
def test_what_is_written_is_read(name, folder):
    place = join(folder, name)
    assert not exists(place)

    write(place, b"0123456789")

    assert exists(place)
    assert read(place) == b"0123456789"
    assert read(place, 2, 3) == b"234"
    assert read(place, 8) == b"89"
    assert read(place, 8, 100) == b"89"
    assert read(place, 3, 0) == b""
    assert list(list_files(folder)) == [(place, 10)]
    remove(place)
    remove(place)
    assert not exists(place)


def test_empty_files_are_written_and_read(folder):
    place = join(folder, "empty.jpg")
    write(place, b"")

    assert read(place) == read(place, 0, 100) == b""
    with open_input(place) as file:
        assert file.read() == b""


def test_files_are_replaced_whole(folder):
    place = join(folder, "x.bin")
    write(place, b"a" * 1000)
    before = version(place)
    write(place, b"b")

    assert read(place) == b"b"
    assert before[0] == 1000
    assert version(place)[0] == 1
    assert version(place)[1] != before[1]
    assert version(place) == version(place)


def test_files_are_read_from_anywhere(folder):
    place = join(folder, "x.bin")
    data = os.urandom(100_000)
    write(place, data)

    with open_input(place, 1024) as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == 99_995
        assert file.read() == data[-5:]
        file.seek(50_000)
        assert file.read(20_000) == data[50_000:70_000]
        file.seek(10, os.SEEK_CUR)
        assert file.read(1) == data[70_010:70_011]
        file.seek(0)
        assert file.read() == data


def test_large_files_go_through_local_ones(folder, tmp_path):
    data = os.urandom(20 << 20)
    here, back = tmp_path / "here" / "x.bin", tmp_path / "back" / "x.bin"
    here.parent.mkdir()
    here.write_bytes(data)

    upload(here, join(folder, "deep/er/x.bin"))
    fetch(join(folder, "deep/er/x.bin"), back)

    assert back.read_bytes() == data


def test_folders_are_listed_without_clutter(folder):
    names = ["b.jpg", "a.jpg", "d/e/f.jpg", "d/c.txt", ".hidden.jpg", "d/.x/y.jpg", "__MACOSX/z.jpg", "Thumbs.db"]
    for name in names:
        write(join(folder, name), b"12")

    expected = [(join(folder, name), 2) for name in ("a.jpg", "b.jpg", "d/c.txt", "d/e/f.jpg")]
    assert sorted(list_files(folder)) == sorted(list_files(folder + "/")) == expected


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("?.jpg", ["a.jpg", "b.jpg"]),
        ("[b-z].jpg", ["b.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.jpg", "d1/c.jpg", "d1/e/f.jpg", "d2/g.jpg"]),
        ("d*/*.jpg", ["d1/c.jpg", "d2/g.jpg"]),
        ("d1/**", ["d1/c.jpg", "d1/e/f.jpg"]),
        ("d?/e/*", ["d1/e/f.jpg"]),
        ("nothing/*.jpg", []),
        ("*.png", []),
    ],
)
def test_patterns_are_filled_in(pattern, fitting, folder):
    for name in ("a.jpg", "b.jpg", "d1/c.jpg", "d1/e/f.jpg", "d2/g.jpg", ".h.jpg"):
        write(join(folder, name), b"1")

    assert sorted(name for name, _ in list_files(join(folder, pattern))) == [join(folder, name) for name in fitting]


def test_objects_are_listed_page_by_page(monkeypatch, bucket):
    monkeypatch.setattr(remote_files, "_PAGE", 3)
    names = [f"{bucket}/many/{number:02}" for number in range(11)]
    remote.store_of(bucket)[0].pipe(dict.fromkeys(names, b""))

    assert [name for name, _ in list_files(f"{bucket}/many")] == names


def test_a_folder_that_is_not_there_has_no_files(folder):
    assert list(list_files(join(folder, "nothing"))) == []


def test_what_is_not_there_is_told(folder):
    place = join(folder, "none.jpg")

    for attempt in (lambda: read(place), lambda: read(place, 5, 5), lambda: open_input(place), lambda: version(place)):
        with pytest.raises(InputError, match=r"none\.jpg is not there"):
            attempt()


def test_a_bucket_that_is_not_there_is_told(s3):
    with pytest.raises(InputError, match="is not there"):
        read("s3://no-such-bucket/x.jpg")
    with pytest.raises(OutputError, match="is not there"):
        write("s3://no-such-bucket/x.jpg", b"")
    assert list(list_files("s3://no-such-bucket/x")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_what_may_not_be_read_is_told(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"1")
    (tmp_path / "x.jpg").chmod(0)

    with pytest.raises(InputError, match="permission"):
        read(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize("place", ["", "\0", "/dev/null/x", "a\0b.jpg"])
def test_names_that_no_file_has_are_told(place):
    with pytest.raises(InputError):
        read(place)


@pytest.mark.parametrize("kept", ["", "/etc/x", "../x", "a/../../x", "..", "a/\0", "a/.."])
@pytest.mark.parametrize("folder", ["out", "/out/", "s3://bucket/out", "memory://out/"])
def test_names_do_not_lead_out_of_a_folder(kept, folder):
    with pytest.raises(OutputError, match="no name within"):
        join(folder, kept)


def test_places_are_below_their_folder():
    assert join("out", "a/b.jpg") == str(Path("out/a/b.jpg"))
    assert join("s3://b", "a/b.jpg") == "s3://b/a/b.jpg"
    assert join("s3://b/c/", "a..b/..c.jpg") == "s3://b/c/a..b/..c.jpg"
    assert join("memory://", "a") == "memory://a"


def test_unknown_schemes_and_missing_packages_are_told():
    with pytest.raises(UsageError, match="fsspec does not know"):
        read("nonsense://a/b")
    with pytest.raises(UnavailableError, match="pip install gcsfs"):
        read("gs://bucket/x")
    with pytest.raises(UnavailableError, match="pip install adlfs"):
        list(list_files("abfs://bucket/x"))


def test_a_server_that_is_not_there_is_given_up_in_time(monkeypatch, s3):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with elsewhere(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}"):
            started = time.monotonic()
            with pytest.raises(StorageError, match=r"cannot be read now: Could not connect"):
                read("s3://bucket/x.jpg")

    assert time.monotonic() - started < 30


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch, s3):
    monkeypatch.setattr(remote, "_ANSWER", 2)
    monkeypatch.setattr(remote, "_PATIENCE", 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        elsewhere(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}"),
        pytest.raises(StorageError, match=r"cannot be written now"),
    ):
        write("s3://bucket/x.jpg", b"1")


@pytest.mark.parametrize("status", [500, 503])
def test_what_fails_for_a_moment_is_tried_again(status, monkeypatch, s3):
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.01))
    with serving(200, b"picture", failures=2) as (address, requests):
        assert read(f"{address}/x.jpg") == b"picture"
        assert len(requests) == 3
    with serving(status) as (address, requests), elsewhere(monkeypatch, address):
        with pytest.raises(StorageError, match="cannot be read now"):
            read("s3://bucket/x.jpg")
        assert len(requests) == 3


@pytest.mark.parametrize(("status", "words"), [(404, "is not there"), (410, "is not there"), (403, "403")])
def test_what_a_web_server_refuses_is_not_asked_again(status, words):
    with serving(status) as (address, requests):
        with pytest.raises(InputError, match=words):
            read(f"{address}/x.jpg")
        assert len(requests) == 1


def test_web_servers_need_not_know_ranges():
    with serving(200, b"0123456789") as (address, _):
        assert read(f"{address}/x", 2, 3) == b"234"
        assert read(f"{address}/x", 0, 100) == read(f"{address}/x") == b"0123456789"


def test_missing_credentials_are_told_at_once(monkeypatch, s3):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with elsewhere(monkeypatch, s3), pytest.raises(UnavailableError, match="no credentials"):
        read("s3://bucket/x.jpg")


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("AccessDenied", InputError, "no way in"),
        ("ExpiredToken", StorageError, "renew them"),
        ("InvalidAccessKeyId", StorageError, "renew them"),
    ],
)
def test_refused_credentials_are_told(code, error, words, monkeypatch, s3):
    body = f"<Error><Code>{code}</Code><Message>no way in</Message></Error>".encode()
    with serving(403, body) as (address, requests), elsewhere(monkeypatch, address):
        with pytest.raises(error, match=words):
            read("s3://bucket/x.jpg")
        assert len(requests) == 1


def test_threads_share_a_connection(bucket):
    write(f"{bucket}/x", b"1")
    stores = []
    threads = [threading.Thread(target=lambda: stores.append(remote.store_of(bucket)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(store) for store in stores}) == 1


def test_what_is_told_survives_a_journey_between_processes():
    with pytest.raises(UsageError) as raised:
        read("nonsense://a/b")

    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
