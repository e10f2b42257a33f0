import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.material import ROOT

from fastnst.serve import runtime
from fastnst.serve.runtime import LICENSE, NOTICE, SCRIPTS, VERSION, installed_by_npm, runtime_folder

FILES = {*SCRIPTS, LICENSE}


def npm_installs(root: Path, version: str = VERSION) -> Path:
    """What npm leaves below a folder, with little in it."""
    package = root / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}))
    for name in SCRIPTS:
        (package / "dist" / name).write_text(name)
    return package / "dist"


class TestPackage:
    def test_one_version_is_pinned_everywhere(self):
        package, lock = (json.loads((ROOT / name).read_text()) for name in ("package.json", "package-lock.json"))

        assert package["dependencies"] == {"onnxruntime-web": VERSION}
        assert lock["packages"][""]["dependencies"] == package["dependencies"]
        assert lock["packages"]["node_modules/onnxruntime-web"]["version"] == VERSION
        assert all(re.fullmatch(r"[\d.]+", version) for version in package["devDependencies"].values())

    def test_the_lock_file_knows_every_file_by_its_digest_and_names_no_host(self):
        text = (ROOT / "package-lock.json").read_text()
        packages = {name: about for name, about in json.loads(text)["packages"].items() if name}

        assert all(about["integrity"].startswith("sha512-") for about in packages.values())
        assert "://" not in text

    def test_what_only_tests_need_is_left_out_of_builds(self):
        packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]

        assert [name for name, about in packages.items() if about.get("dev")] == ["node_modules/axe-core"]

    def test_none_of_it_is_committed(self):
        if not (ROOT / ".git").exists() or not shutil.which("git"):
            pytest.skip("this is no checkout")
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()

        assert [name for name in listed if "node_modules" in name or name.endswith(".wasm") or "/ort" in name] == []
        assert "package-lock.json" in listed


class TestFolder:
    def test_what_npm_installed_is_found(self, tmp_path):
        folder = npm_installs(tmp_path)

        assert installed_by_npm(tmp_path) == folder

    def test_another_version_an_unfinished_installation_and_none_are_none(self, tmp_path):
        npm_installs(tmp_path / "other", version="1.29.0")
        (npm_installs(tmp_path / "part") / SCRIPTS[-1]).unlink()
        (npm_installs(tmp_path / "odd").parent / "package.json").write_text("[")

        assert [installed_by_npm(tmp_path / name) for name in ("other", "part", "odd", "none")] == [None] * 4

    def test_an_installed_package_has_it_inside(self, tmp_path, monkeypatch):
        inside = tmp_path / "fastnst" / "serve" / "runtime"
        shutil.copytree(npm_installs(tmp_path / "npm"), inside)
        monkeypatch.setattr(runtime, "_PACKAGE", tmp_path / "fastnst")

        assert runtime_folder() == inside

        (inside / SCRIPTS[0]).unlink()
        assert runtime_folder() is None
        assert runtime_folder() != npm_installs(tmp_path)
        assert runtime_folder() == tmp_path / "node_modules" / "onnxruntime-web" / "dist"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """As much of a checkout as a wheel needs."""
    root = tmp_path / "project"
    (root / "fastnst" / "serve").mkdir(parents=True)
    (root / "checkpoints").mkdir()
    (root / "checkpoints" / "README.md").touch()
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "package.json",
        "package-lock.json",
        ".npmrc",
    ):
        shutil.copy(ROOT / name, root)
    for name in ("fastnst/__init__.py", "fastnst/serve/runtime.py"):
        shutil.copy(ROOT / name, root / name)
    (root / "fastnst" / "weights").mkdir()
    shutil.copy(ROOT / "fastnst" / "weights" / "LICENSE.md", root / "fastnst" / "weights")
    return root


def built(root: Path, folder: Path, path: str | None = None) -> tuple[dict[str, bytes], str]:
    """The files of a wheel and what was said while it was made, with this PATH."""
    environment = {**os.environ, **({} if path is None else {"PATH": path}), "TMPDIR": str(folder)}
    folder.mkdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert [path.name for path in folder.iterdir()] == ["dist"]  # nothing fetched stays behind
    return files, done.stdout + done.stderr


def runtime_in(files: dict[str, bytes]) -> dict[str, bytes]:
    inside = "fastnst/serve/runtime/"
    return {name.removeprefix(inside): data for name, data in files.items() if name.startswith(inside)}


def fake_npm(folder: Path, script: str) -> str:
    """A PATH with an npm that does this, and what a shell script needs."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"


class TestWheel:
    def test_it_holds_the_runtime_that_npm_installed_with_its_license(self, project, tmp_path):
        npm_installs(project)

        files, said = built(project, tmp_path / "build", path="")

        assert runtime_in(files) == {**{name: name.encode() for name in SCRIPTS}, LICENSE: NOTICE.encode()}
        assert "onnxruntime" not in said

    def test_else_npm_fetches_it_into_a_folder_of_its_own(self, project, tmp_path):
        npm_installs(tmp_path / "there")
        path = fake_npm(
            tmp_path / "bin", f'echo "$@" > {tmp_path}/words; ls -a > {tmp_path}/given; cp -r {tmp_path}/there/* .'
        )

        files, _ = built(project, tmp_path / "build", path)

        assert runtime_in(files).keys() == FILES
        assert (tmp_path / "words").read_text().split()[:3] == ["ci", "--omit=dev", "--ignore-scripts"]
        assert {"package.json", "package-lock.json", ".npmrc"} <= set((tmp_path / "given").read_text().split())
        assert not (project / "node_modules").exists()

    @pytest.mark.parametrize("script", [None, "echo 'npm error code ENOTFOUND' >&2; exit 1", "exit 0"])
    def test_without_it_a_wheel_is_built_and_says_so(self, project, tmp_path, script):
        path = "" if script is None else fake_npm(tmp_path / "bin", script)

        files, said = built(project, tmp_path / "build", path)

        assert runtime_in(files) == {}
        assert "fastnst/serve/runtime.py" in files
        assert "this wheel has no onnxruntime-web: its page paints on the server" in said
        if script is None:
            assert "npm is not there" in said
        elif "ENOTFOUND" in script:
            assert "npm could not fetch onnxruntime-web: npm error code ENOTFOUND" in said

    def test_another_version_that_npm_installed_is_not_taken(self, project, tmp_path):
        npm_installs(project, version="1.29.0")

        files, _ = built(project, tmp_path / "build", path="")

        assert runtime_in(files) == {}

    def test_that_of_this_checkout_has_all_that_a_page_needs(self, project, tmp_path):
        folder, page = installed_by_npm(ROOT), ROOT / "fastnst" / "serve" / "page"
        if folder is None:
            pytest.skip("onnxruntime-web is not installed here; run npm ci")
        (project / "node_modules").symlink_to(ROOT / "node_modules")
        shutil.copytree(page, project / "fastnst" / "serve" / "page")
        shutil.copy(ROOT / "checkpoints" / "great-wave-tiny.onnx", project / "checkpoints")

        files, _ = built(project, tmp_path / "build")

        assert runtime_in(files).keys() == FILES
        assert all(files[f"fastnst/serve/runtime/{name}"] == (folder / name).read_bytes() for name in SCRIPTS)
        for path in page.rglob("*"):
            assert path.is_dir() or f"fastnst/serve/page/{path.relative_to(page).as_posix()}" in files
        assert "fastnst/checkpoints/great-wave-tiny.onnx" in files
        assert [name for name in files if "node_modules" in name or name.endswith(".pyc")] == []
