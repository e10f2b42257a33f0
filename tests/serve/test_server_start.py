import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from helpers.photos import noise
from helpers.picture_files import encoded
from helpers.servers import Server, descendants, post, read_all, serving, status_of, until

from fastnst.errors import InputError, UsageError
from fastnst.serve.server import read_token
from fastnst.styles import bundled_style

TOKEN = "correct-horse-battery-staple"
HUGE = encoded(noise(1900, 1900), "JPEG")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with two styles, whose previews need not be painted."""
    folder = tmp_path_factory.mktemp("styles")
    for name in ("little-wave", "large-wave"):
        (folder / f"{name}.jpg").write_bytes(encoded(noise(64, 64), "JPEG"))
    shutil.copy(bundled_style("great-wave-tiny").onnx, folder / "little-wave.onnx")
    shutil.copy(bundled_style("great-wave-base").onnx, folder / "large-wave.onnx")
    return folder


@pytest.fixture
def token_file(tmp_path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


# 74: where it listens


def test_it_listens_on_this_machine_alone_and_says_where(tiny):
    with serving("--styles", tiny) as server:
        listening = Path(f"/proc/{server.process.pid}/net/tcp").read_text()

        assert server.host == "127.0.0.1"
        assert f"0100007F:{server.port:04X} 00000000:0000 0A" in listening
        assert f"00000000:{server.port:04X} 00000000:0000 0A" not in listening
        assert server.said(r"memory stays below [\d.]+ GB: service")
        assert [style["name"] for style in server.client.get("v1/styles").json()["styles"]] == [
            "large-wave",
            "little-wave",
        ]


def test_the_browser_is_shown_the_page_if_that_is_asked_for(tiny, tmp_path, monkeypatch):
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/opening && mv {tmp_path}/opening {tmp_path}/opened\n")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))

    with serving("--styles", tiny, "--open") as server:
        until((tmp_path / "opened").exists)

        assert (tmp_path / "opened").read_text() == server.url + "\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--host", "0.0.0.0"], 2, ["0.0.0.0", "--token"]),
        (["--host", "::"], 2, ["--token"]),
        (["--host", "no such host"], 2, ["no such host", "127.0.0.1"]),
        (["--port", "65536"], 2, ["--port"]),
        (["--workers", "0"], 2, ["--workers"]),
        (["--deadline", "soon"], 2, ["soon"]),
        (["--origin", "paint.example.org"], 2, ["--origin", "https://"]),
        (["--token", "missing"], 4, ["missing"]),
        (["--styles", "nowhere"], 2, ["nowhere"]),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(fastnst, arguments, status, words):
    done = fastnst("serve", *arguments)

    assert done.returncode == status
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert all(word in line for word in words)


def test_a_port_in_use_is_told(fastnst):
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = fastnst("serve", "--port", other.getsockname()[1])

    assert done.returncode == 3
    assert done.stderr.decode().count("\n") == 1
    assert b"in use" in done.stderr
    assert b"--port" in done.stderr


@pytest.mark.parametrize(
    "content", ["", "\n", "short", "two words that are long enough", "wörter-mit-umlaut", "x" * 15]
)
def test_a_token_that_is_no_word_of_sixteen_characters_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)

    with pytest.raises(UsageError, match="16 or more"):
        read_token(path)


def test_a_token_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_token(tmp_path / "token")


# 75, 76: a service for others


def test_with_a_token_the_api_wants_it_and_the_page_does_not(tiny, token_file, png):
    with serving("--styles", tiny, "--host", "0.0.0.0", "--token", token_file) as server:
        client, right = server.client, {"Authorization": f"Bearer {TOKEN}"}
        for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            for path in ("v1/styles", "metrics", "v1/stylize"):
                answer = client.get(path, headers=wrong)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["www-authenticate"].startswith("Bearer")
        open_to_all = [client.get(path).status_code for path in ("", "styles.json", "livez", "readyz", "openapi.json")]
        named = client.get("livez", headers={"Host": "paint.example.org"})
        painted = client.post("v1/stylize", content=png, headers=right)
        command = Path(f"/proc/{server.process.pid}/cmdline").read_text()

        assert open_to_all == [200] * 5
        assert client.get("styles.json").json()["token"] is True
        assert named.status_code == 200
        assert painted.status_code == 200
        assert client.get("metrics", headers=right).status_code == 200
        assert TOKEN not in command
        assert TOKEN not in "".join(server.lines)


def test_behind_a_proxy_pages_under_its_address_may_ask(tiny, png):
    with serving("--styles", tiny, "--origin", "https://paint.example.org") as server:
        for host in ("paint.example.org", "127.0.0.1"):
            headers = {"Host": host, "Origin": "https://paint.example.org"}
            assert server.client.post("v1/stylize", content=png, headers=headers).status_code == 200
        assert server.client.get("livez", headers={"Host": "example.org"}).status_code == 400


# 73: not ready


def test_a_style_that_paints_nothing_leaves_it_alive_and_not_ready(tiny, tmp_path, png):
    from fastnst.engine import OnnxEngine
    from fastnst.nets.onnx_graph import build

    network = OnnxEngine(tiny / "little-wave.onnx", "cpu")
    weights = {name: values * float("nan") for name, values in network.banded.weights.items()}
    folder = tmp_path / "styles"
    shutil.copytree(tiny, folder)
    (folder / "ruin.onnx").write_bytes(build(network.banded.config, weights, metadata=network.metadata))
    (folder / "ruin.jpg").write_bytes(encoded(noise(64, 64), "JPEG"))
    server = Server("--styles", folder)
    try:
        server.said("ruin.*not ready")

        assert server.client.get("livez").status_code == 200
        answer = server.client.get("readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "model_unusable")
        assert server.stylize(png, style="ruin").status_code == 503
        assert server.stylize(png, style="little-wave").status_code == 200
    finally:
        server.end()


# 71: the end


def test_told_to_stop_it_finishes_what_it_has_and_takes_nothing_new(tiny, png):
    server = Server("--styles", tiny, "--queue", "4").ready()
    with ThreadPoolExecutor(2) as pool:
        slow = encoded(noise(300, 300), "JPEG")
        running, waiting = [
            pool.submit(httpx.post, f"{server.url}v1/stylize", content=slow, params={"style": "large-wave"}, timeout=60)
            for _ in range(2)
        ]
        until(lambda: server.metric("fastnst_inflight") + server.metric("fastnst_queue_depth") == 2)
        server.signal(signal.SIGTERM)
        until(lambda: server.client.get("readyz").status_code == 503)
        refused = server.stylize(png)
        statuses = [running.result().status_code, waiting.result().status_code]
    status = server.process.wait(20)
    server.end()

    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert statuses == [200, 200]
    assert status == 143
    assert server.lines[-1] == "fastnst: stopped by SIGTERM\n"


@pytest.mark.parametrize("again", [False, True], ids=["limit", "second signal"])
def test_what_takes_too_long_to_finish_is_given_up(tiny, again):
    server = Server("--styles", tiny, "--drain", "60s" if again else "1s").ready()
    with server.connect() as connection:
        connection.sendall(post(HUGE, f"Content-Length: {len(HUGE)}", target="/v1/stylize?style=large-wave"))
        until(lambda: server.metric("fastnst_inflight") == 1)
        server.signal(signal.SIGINT)
        if again:
            until(lambda: server.client.get("readyz").status_code == 503)
            server.signal(signal.SIGINT)
        begun = time.monotonic()
        answer = read_all(connection)
        status = server.process.wait(20)
    server.end()

    assert time.monotonic() - begun < 10  # all of it takes twenty and more
    assert status == 130
    assert answer == b"" or status_of(answer) == 503
    assert again or b"draining" in answer


def test_killed_it_leaves_no_process_and_the_port_is_free(tiny, png):
    server = Server("--styles", tiny).ready()
    assert server.stylize(png).status_code == 200
    started = descendants(server.process.pid)
    server.process.kill()
    server.end()

    assert len(started) >= 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    with serving("--styles", tiny, port=server.port) as again:
        assert again.port == server.port


def test_help_needs_none_of_the_packages_of_the_service(tmp_path):
    script = (
        "import sys\n"
        "from fastnst.cli import main\n"
        "main(['serve', '--help'])\n"
        "print(*{'uvicorn', 'starlette', 'prometheus_client', 'python_multipart', 'onnxruntime'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert done.stdout.splitlines()[-1] == ""
    assert "--deadline" in done.stdout
