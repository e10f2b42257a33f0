"""The images without an engine: what the files say, against the checkout and the real command line."""

import json
import os
import re
import shlex
import stat
import subprocess
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.material import ROOT

from fastnst.cli.main import app  # with all its commands
from fastnst.config import ServeOptions
from fastnst.serve.bound import memory_bound

DOCKER = ROOT / "docker"
ENTRYPOINT = DOCKER / "entrypoint"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@dataclass
class Stage:
    """One FROM and what follows it."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        return [rest for step, rest in self.steps if step == word]

    def last(self, word: str) -> list[str]:
        return json.loads(self.of(word)[-1])


def stages(name: str) -> list[Stage]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (DOCKER / name).read_text(), flags=re.MULTILINE))
    found: list[Stage] = []
    for word, rest in re.findall(r"^([A-Z]+) (.*)$", text, flags=re.MULTILINE):
        if word == "FROM":
            image, _, alias = rest.partition(" AS ")
            found.append(Stage(image, alias))
        elif found:
            found[-1].steps.append((word, rest))
    return found


def understood(words: list[str]) -> Any:
    """The bound arguments of a command line of fastnst, which is not run; raises if there is no such one."""
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out of what is sent to the engine."""
    parts = path.split("/")
    for pattern in (ROOT / ".dockerignore").read_text().split():
        below = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if any(fnmatch(place, pattern.removeprefix("**/")) for place in below) or (
            pattern.startswith("**/") and pattern[3:] in parts
        ):
            return True
    return False


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.train"])
class TestImages:
    def test_everything_copied_is_there(self, name):
        known: list[str] = []
        for stage in stages(name):
            for rest in stage.of("COPY"):
                words = rest.split()
                flags = [word for word in words if word.startswith("--")]
                sources = [word for word in words[:-1] if word not in flags]
                origin = [flag.removeprefix("--from=") for flag in flags if flag.startswith("--from=")]
                assert all(one in known for one in origin)
                for source in () if origin else sources:
                    assert (ROOT / source).exists()
                    assert not ignored(source)
            known.append(stage.name)

    def test_a_wheel_can_be_built_of_it(self, name):
        (build,) = (stage for stage in stages(name) if stage.name == "build")
        copied = {word for rest in build.of("COPY") for word in rest.split()[:-1]}
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())

        needed = {"pyproject.toml", "hatch_build.py", project["project"]["readme"], "LICENSE", "fastnst", "checkpoints"}
        assert needed <= copied
        (extras,) = re.findall(r'"\.\[(.*?)\]"', " ".join(build.of("RUN")))
        default = dict(rest.split("=") for rest in build.of("ARG"))
        named = [re.sub(r"\$\{(\w+)\}", lambda match: default[match[1]], extra) for extra in extras.split(",")]
        assert set(named) <= set(project["project"]["optional-dependencies"])
        assert ("train" in named) == (name == "Dockerfile.train")  # which brings torch
        assert ({"serve", "batch"} <= set(named)) == (name == "Dockerfile")

    def test_it_runs_as_nobody_in_particular_and_ends_on_a_signal(self, name):
        last = stages(name)[-1]

        assert last.of("USER") == ["10001"]
        assert [word for word, _ in last.steps].index("USER") > [word for word, _ in last.steps].index("RUN")
        assert last.of("STOPSIGNAL") == ["SIGTERM"]
        assert last.last("ENTRYPOINT")[0] in ("entrypoint", "fastnst")

    def test_images_are_of_one_version(self, name):
        text = (DOCKER / name).read_text()
        versions = dict(re.findall(r"^ARG (\w+)=(.+)$", text, flags=re.MULTILINE))

        for stage in stages(name):
            image, tag = stage.image.split(":")
            (argument,) = re.findall(r"\$\{(\w+)\}", tag)
            assert re.fullmatch(r"\d+(\.\d+)?", versions[argument])
            assert image in ("python", "node")

    def test_its_first_words_are_a_command(self, name):
        words = stages(name)[-1].last("CMD")

        if "--help" in words:
            assert words[0] in list(app)
        else:
            assert understood(words) is not None


class TestRuntimeImage:
    def test_npm_installs_what_the_lock_file_names_and_runs_nothing_of_it(self):
        (runtime,) = (stage for stage in stages("Dockerfile") if stage.image.startswith("node:"))

        (command,) = runtime.of("RUN")
        assert command.split()[:2] == ["npm", "ci"]
        assert {"--omit=dev", "--ignore-scripts"} <= set(command.split())
        assert {"package.json", "package-lock.json", ".npmrc"} <= set(" ".join(runtime.of("COPY")).split())

    def test_a_build_without_the_runtime_fails(self):
        (build,) = (stage for stage in stages("Dockerfile") if stage.name == "build")

        assert "&& test -f /opt/fastnst/lib/python3*/site-packages/fastnst/serve/runtime/LICENSE" in build.of("RUN")[-1]

    def test_it_serves_on_its_port_and_is_asked_there_whether_it_is_well(self):
        last = stages("Dockerfile")[-1]

        port = ServeOptions().port
        assert last.of("EXPOSE") == [str(port)]
        assert last.last("CMD") == ["serve"]
        (health,) = last.of("HEALTHCHECK")
        command = json.loads(health.partition("CMD ")[2])
        assert command[:2] == ["python", "-c"]
        assert f"http://127.0.0.1:{port}/readyz" in command[2]
        compile(command[2], "HEALTHCHECK", "exec")


@pytest.fixture
def start(tmp_path: Path):
    """Run the entrypoint with a fastnst that prints its words, what those that are files hold, and its environment."""
    program = tmp_path / "fastnst"
    program.write_text(
        '#!/bin/sh\nfor word in "$@"; do echo "word $word"; done\n'
        'for word in "$@"; do if [ -f "$word" ]; then echo "file $(stat -c %a "$word") $(cat "$word")"; fi; done\nenv\n'
    )
    program.chmod(0o755)

    def run(*words: str, **environment: str) -> tuple[list[str], list[str], str, str]:
        known = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path), **environment}
        done = subprocess.run(["sh", str(ENTRYPOINT), *words], capture_output=True, text=True, env=known, check=True)
        lines = done.stdout.splitlines()
        given = [line.removeprefix("word ") for line in lines if line.startswith("word ")]
        files = [line.removeprefix("file ") for line in lines if line.startswith("file ")]
        return given, files, done.stdout, done.stderr

    return run


class TestEntrypoint:
    def test_it_can_be_run(self):
        assert ENTRYPOINT.stat().st_mode & stat.S_IXUSR

    def test_serving_alone_is_reached_from_outside_and_wants_a_token_that_it_tells(self, start):
        words, files, _, said = start("serve")
        again = start("serve")[1]

        assert words[:4] == ["serve", "--host", "0.0.0.0", "--token"]
        assert isinstance(understood(words)["options"], ServeOptions)
        mode, token = files[0].split()
        assert mode == "600"
        assert re.fullmatch("[0-9a-f]{48}", token)
        assert token in said
        assert again != files

    def test_a_token_may_be_given_and_is_told_nobody(self, start):
        words, files, output, said = start("serve", FASTNST_TOKEN="a word of mine with blanks")

        assert words[:3] == ["serve", "--host", "0.0.0.0"]
        assert files == ["600 a word of mine with blanks"]
        assert said == ""
        assert "FASTNST_TOKEN" not in output

    @pytest.mark.parametrize("shell", ["sh", "bash"])
    def test_nodes_of_a_cluster_are_started_by_shells(self, start, shell):
        assert start(shell, "-c", "echo $0 $1", "a word", "more")[2].splitlines()[0] == "a word more"

    def test_ray_is_ray(self, start, tmp_path):
        (tmp_path / "ray").symlink_to(tmp_path / "fastnst")

        assert start("ray", "start", "--head", "--block")[0] == ["start", "--head", "--block"]

    @pytest.mark.parametrize(
        "words",
        [
            ["batch", "photos", "-o", "paintings"],
            ["serve", "--host", "0.0.0.0", "--token", "/run/secrets/token"],
            ["stylize", "a photo.jpg", "-o", "painting.jpg"],
            ["--version"],
            [],
        ],
    )
    def test_other_words_stay_as_they_are(self, start, words):
        assert start(*words)[0] == words


class TestCompose:
    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_may_do_little(self, name):
        service = SERVICES[name]

        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(re.fullmatch(r"/tmp:size=\d+m,mode=1777", mount) for mount in service["tmpfs"])
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert "privileged" not in service
        assert "user" not in service  # that of the image

    @pytest.mark.parametrize("name", SERVICES)
    def test_it_is_built_here(self, name):
        build = SERVICES[name]["build"]
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

        assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
        assert build["args"]["EXTRA"] in extras

    @pytest.mark.parametrize("name", ["serve", "serve-gpu"])
    def test_the_service_listens_for_a_proxy_here_and_wants_a_token(self, name):
        service = SERVICES[name]
        words = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in service["command"]]
        options = understood(words)["options"]

        assert service["ports"] == [f"127.0.0.1:{options.port}:{options.port}"]
        assert service["secrets"] == ["token"]
        assert options.token == Path("/run/secrets/token")
        assert "file" in COMPOSE["secrets"]["token"]
        assert "healthcheck" not in service  # that of the image
        assert int(service["stop_grace_period"].removesuffix("s")) > options.drain
        assert memory_bound(options).total < int(service["mem_limit"].removesuffix("g")) << 30

    def test_a_gpu_is_taken_only_where_it_is_asked_for(self):
        assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["serve"]
        assert [name for name, service in SERVICES.items() if "deploy" in service] == ["serve-gpu"]
        (device,) = SERVICES["serve-gpu"]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])

    @pytest.mark.parametrize("command", ["stylize", "batch"])
    def test_pictures_are_painted_from_the_current_folder(self, command):
        service = SERVICES[command]

        assert command in list(app)
        assert service["entrypoint"] == ["fastnst", command]
        assert service["volumes"] == ["${PWD:-.}:/data"]
        assert service["healthcheck"] == {"disable": True}

    def test_ray_has_room_beside_the_other_limits(self):
        assert SERVICES["batch"]["shm_size"] == "1g"
        assert SERVICES["batch"]["pids_limit"] > SERVICES["serve"]["pids_limit"]


def docker_commands() -> list[str]:
    """What the documentation has of docker run and docker compose run."""
    texts = [path.read_text() for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *DOCKER.iterdir()]]
    joined = "\n".join(texts).replace("\\\n", " ")
    return re.findall(r"docker (?:run|compose .*?run) .*", joined)


@pytest.mark.parametrize("line", docker_commands())
def test_what_is_documented_are_command_lines(line):
    words = shlex.split(line, comments=True)
    image = next(n for n, word in enumerate(words) if re.fullmatch(r"fastnst(:\w+)?|stylize|batch", word))
    given = words[image + 1 :]
    if words[image] in ("stylize", "batch"):
        given = [words[image], *given]

    assert not given or given[0] == "ray" or understood(given) is not None
