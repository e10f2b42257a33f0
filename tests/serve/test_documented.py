"""What docs/serve.md says of the service is so: its command lines, its requests, its tables."""

import inspect
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.material import PHOTOS, ROOT
from PIL import Image

from fastnst import errors
from fastnst.cli.main import app  # with all its commands
from fastnst.config import ServeLimits, ServeOptions
from fastnst.decode.formats import looks_like_image
from fastnst.serve import problems
from fastnst.serve.bound import memory_bound
from fastnst.serve.metrics import Metrics

TEXT = (ROOT / "docs" / "serve.md").read_text()
LINES = re.findall(r"^\$ (.*)$", TEXT, flags=re.MULTILINE)


def lines(program: str) -> list[str]:
    return [line for line in LINES if line.startswith(program + " ")]


@pytest.mark.parametrize("line", lines("fastnst"))
def test_command_lines_are_understood(line):
    _, bound, _ = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)

    assert isinstance(bound.arguments.get("options", ServeOptions()), ServeOptions)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page takes for granted: a photo.jpg, and a mask.png of its proportions."""
    folder = tmp_path_factory.mktemp("client")
    with Image.open(PHOTOS / "cat.jpg") as photo:
        photo.thumbnail((160, 160))
        photo.save(folder / "photo.jpg")
        Image.linear_gradient("L").resize(photo.size).save(folder / "mask.png")
    return folder


def test_requests_are_answered(server, folder):
    if shutil.which("curl") is None:
        pytest.skip("the documented requests are made with curl")
    made = {}
    for line in lines("curl"):
        words = shlex.split(line.replace("http://127.0.0.1:8000/", server.url))
        done = subprocess.run([*words, "--silent", "--show-error", "--fail"], cwd=folder, capture_output=True)
        assert done.returncode == 0, f"{line}\n{done.stderr.decode()}"
        made[words[-1] if "-o" in words else line] = done.stdout

    paintings = {name: looks_like_image((folder / name).read_bytes()) for name in made if (folder / name).is_file()}
    assert paintings == {"painting.jpg": "JPEG", "painting.png": "PNG", "half.jpg": "JPEG"}
    (listed,) = [json.loads(data) for data in made.values() if data]
    assert {"name", "title", "credit", "preview", "bytes"} <= listed["styles"][0].keys()


def test_every_address_is_documented_and_there(server):
    paths = server.client.get("openapi.json").json()["paths"]

    named = set(re.findall(r"`(?:GET|POST) (/\S+?)`", TEXT))
    assert named == paths.keys()
    assert {server.client.get(path).status_code for path in named - {"/v1/stylize"}} == {200}


def test_every_code_of_a_problem_is_listed_with_its_status():
    listed = {}
    for statuses, codes in re.findall(r"^\| ([\d, ]+) \| ((?:`\w+`(?:, )?)+) \|", TEXT, flags=re.MULTILINE):
        listed |= {code: statuses.split(", ") for code in re.findall(r"`(\w+)`", codes)}
    kinds = [kind for _, kind in inspect.getmembers(problems, inspect.isclass) if issubclass(kind, errors.FastnstError)]
    kinds += [errors.UnsupportedFormatError, errors.InputError, errors.SizeError, errors.ModelError]
    told = {kind.code: str(kind.http_status) for kind in kinds}
    told.pop(problems.UnavailableNowError("", seconds=1).code)  # of its kinds alone

    assert {code: status for code, status in told.items() if status not in listed.get(code, ())} == {}
    assert listed.keys() == told.keys()


def test_every_limit_is_listed_with_its_default():
    limits = ServeLimits()
    table = TEXT[TEXT.index("## Limits") : TEXT.index("**Memory.**")]

    for field in fields(ServeLimits):
        assert f"`--{field.name.replace('_', '-')}`" in table
    assert (limits.queue, limits.max_pixels, limits.max_bytes) == (8, 50_000_000, 20 << 20)
    assert (limits.deadline, limits.drain) == (30, 30)


def test_the_memory_bound_is_as_documented():
    for gigabytes, given in {
        18.4: {},
        7.4: {"workers": 2, "max_pixels": 24_000_000},
        4.5: {"workers": 1, "max_pixels": 4_000_000},
    }.items():
        bound = memory_bound(ServeLimits(**{"workers": 4, **given})).total
        assert bound == pytest.approx(gigabytes * 1e9, rel=0.01)
        assert f"{gigabytes} GB" in TEXT


def test_every_metric_is_listed():
    metrics = Metrics(lambda: 0, lambda: 0)
    metrics.requests.labels("page", "200").inc()
    metrics.rejected.labels("busy").inc()
    metrics.decode_failures.labels("undecodable_image").inc()
    given = set(re.findall(r"^# TYPE (\w+)", metrics.text().decode(), flags=re.MULTILINE))

    assert set(re.findall(r"`(fastnst_\w+)", TEXT)) == given
