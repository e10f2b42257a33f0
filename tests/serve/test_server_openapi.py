import re
import subprocess
import sys
from pathlib import Path

from helpers.material import PROGRAMS

# Of what fits the document more may be refused than it can say: styles that do not mix, bytes that are no picture.
CONFIG = f"""
hooks = "{PROGRAMS / "picture_bodies.py"}"
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "415", "422"]
"""


def test_the_service_does_what_its_document_says(server, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{server.url}openapi.json", "--checks", "all", "--max-examples", "15"]
    command += ["--max-response-time", "10", "--seed", "1", "--no-color", "--continue-on-failure"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout
    assert re.search(r"Tested: +([56])", done.stdout)
    painted = server.metric('fastnst_requests_total{code="200",route="/v1/stylize"}')
    assert painted > 5
    assert server.metric('fastnst_requests_total{code="500",route="/v1/stylize"}') == 0
