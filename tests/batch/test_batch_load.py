"""scripts/batch_load.py finds what is wrong."""

import json
import os
import random
import sys

import pytest
from helpers.batches import mixed
from helpers.material import ROOT

from fastnst.decode.formats import looks_like_image

sys.path.append(str(ROOT / "scripts"))
from batch_load import Run, actors, course, damage, differences, growth, memory


@pytest.fixture
def painted(tmp_path):
    """Inputs, outputs and reference as they should be: one good picture, one that is damaged."""
    for folder in ("in", "out", "reference"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"a painting")
    (tmp_path / "in" / "b.png").write_bytes(b"damaged")
    write(tmp_path, [row(tmp_path, "a.png"), row(tmp_path, "b.png", "b.png is damaged")])
    return tmp_path


def row(folder, name, error=None):
    status = "failed" if error else "painted"
    return {"input": str(folder / "in" / name), "status": status, "error": error, "seconds": random.random()}


def write(folder, rows):
    (folder / "out" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def found(folder):
    told = {"fastnst: b.png is damaged"}
    return differences(folder / "in", folder / "out", folder / "reference", told)


def test_nothing_is_wrong_with_what_is_right(painted):
    assert found(painted) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", b"another painting", "a.png differs"),
        ("a.png", None, "a.png is missing"),
        ("c.png", b"a painting", "c.png is too much"),
    ],
)
def test_files_are_compared(painted, name, content, said):
    if content is None:
        (painted / "out" / name).unlink()
    else:
        (painted / "out" / name).write_bytes(content)

    assert found(painted) == [said]


def test_rows_are_compared(painted):
    good, bad = row(painted, "a.png"), row(painted, "b.png", "b.png is damaged")

    write(painted, [good])
    assert len(found(painted)) == 2  # no row, and no word of the failure
    write(painted, [good, good, bad])
    assert found(painted) == ["an input has two rows"]
    write(painted, [good, {**bad, "error": "b.png is odd"}])
    assert len(found(painted)) == 2  # one is told, the other not


def test_pictures_are_damaged_in_several_ways(tmp_path):
    folder = mixed(tmp_path, 30, damaged=0.2)
    damaged = [
        (folder / f"{n % 7}" / f"{n:05}{('.jpg', '.png', '.webp')[n % 3]}").read_bytes() for n in range(4, 30, 5)
    ]

    assert len(list(folder.rglob("*.*"))) == 30
    assert b"" in damaged
    assert sum(bool(looks_like_image(data)) for data in damaged) < 6
    whole = bytes(range(256)) * 9
    assert len({damage(whole, kind, random.Random(0)) for kind in range(6)} | {whole}) == 7


def test_rates_and_memory():
    run = Run(None, 0.0, [(float(at), 10 * at) for at in range(1, 11)])
    assert run.steady() == pytest.approx(10)
    samples = [(done, process, size + 1000 * done) for done in range(1, 101) for process, size in ((1, 0), (2, 50))]
    assert growth([(done, 1, 5) for done in range(100)]) == {1: 0}
    assert growth(samples) == pytest.approx({1: 50_500, 2: 50_500}, rel=0.02)
    assert len(course(samples, 4)) == 4
    assert memory(os.getpid()) > 1_000_000
    assert actors(os.getpid()) == []
