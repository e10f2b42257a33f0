import importlib.util
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from helpers.material import ROOT

SCRIPT = ROOT / "scripts" / "lbfgs_chart.py"
PHOTOS = ROOT / "examples" / "photos"
SVG = "{http://www.w3.org/2000/svg}"

spec = importlib.util.spec_from_file_location("lbfgs_chart", SCRIPT)
lbfgs_chart = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lbfgs_chart)
Line, draw, reached = lbfgs_chart.Line, lbfgs_chart.draw, lbfgs_chart.reached


def heights(chart: str) -> list[list[float]]:
    lines = [line.get("points").split() for line in ElementTree.fromstring(chart).iter(f"{SVG}polyline")]
    return [[float(point.split(",")[1]) for point in line] for line in lines]


def test_the_iteration_that_has_fallen_to_a_value():
    assert reached([8.0, 4.0, 2.0, 1.0], 3.0) == "2"
    assert reached([8.0, 4.0, 2.0, 1.0], 4.0) == "1"
    assert reached([8.0, 4.0, 2.0, 1.0], 0.5) == "> 3"


def test_a_pass_crosses_the_curve_where_the_curve_has_its_loss():
    across, falling = heights(draw([Line("L-BFGS", [8.0, 4.0, 2.0])], [Line("fast: 4.00", [4.0])]))

    assert across == [falling[1]] * 3
    assert falling[1] - falling[0] == pytest.approx(falling[2] - falling[1], abs=0.2)  # halves are equally far apart
    assert falling[0] < falling[1] < falling[2]  # downwards


def test_what_lies_far_above_a_pass_is_left_out():
    _, falling = heights(draw([Line("L-BFGS", [1000.0, 4.0, 2.0])], [Line("fast: 4.00", [4.0])]))

    assert len(falling) == 2


def test_chart_of_a_bundled_style(tmp_path):
    command = [sys.executable, SCRIPT, "great-wave-tiny", "--content", PHOTOS, "-o", tmp_path / "chart.svg"]

    done = subprocess.run(
        [*command, "--size", "32", "--photos", "1", "--iterations", "3"], capture_output=True, cwd=ROOT
    )

    assert done.returncode == 0, done.stderr.decode()
    texts = [text.text for text in ElementTree.parse(tmp_path / "chart.svg").iter(f"{SVG}text")]
    assert {"L-BFGS from noise", "L-BFGS from the photo", "L-BFGS iterations", "total loss"} <= set(texts)
    assert any(text.startswith("tiny: ") for text in texts)
    assert done.stdout.decode().startswith(next(text for text in texts if text.startswith("tiny: ")))


def test_styles_of_different_paintings_are_refused(tmp_path):
    command = [
        sys.executable,
        SCRIPT,
        "great-wave",
        "cafe-terrace",
        "--content",
        PHOTOS,
        "-o",
        tmp_path / "a.svg",
    ]

    done = subprocess.run(command, capture_output=True, cwd=ROOT)

    assert done.returncode == 1
    assert b"different style images: cafe-terrace.jpg, great-wave.jpg" in done.stderr
