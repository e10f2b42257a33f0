"""What a wheel has besides the package: onnxruntime-web, as npm has installed it here or fetches it for the build.

Without either it is built all the same, and `fastnst serve` paints on the server alone.
"""

import shutil
import subprocess
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DESCRIPTION = ("package.json", "package-lock.json", ".npmrc")


class RuntimeHook(BuildHookInterface[Any]):
    """Adds fastnst/serve/runtime to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # whose folder is the checkout, where node_modules lies
            return
        root, runtime = Path(self.root), _module(Path(self.root, "fastnst", "serve", "runtime.py"))
        self.fetched = tempfile.TemporaryDirectory(prefix="fastnst-build-")
        place = Path(self.fetched.name)
        folder = runtime.installed_by_npm(root) or self._fetch(root, place, runtime)
        if folder is None:
            self.app.display_warning("this wheel has no onnxruntime-web: its page paints on the server")
            return
        notice = place / runtime.LICENSE
        notice.write_text(runtime.NOTICE)
        for path in (*(folder / name for name in runtime.SCRIPTS), notice):
            build_data["force_include"][str(path)] = f"fastnst/serve/runtime/{path.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version != "editable":
            self.fetched.cleanup()

    def _fetch(self, root: Path, place: Path, runtime: ModuleType) -> Path | None:
        """Let npm install what the lock file names, every file checked against its digest; None if it cannot."""
        npm = shutil.which("npm")
        if npm is None:
            self.app.display_warning("npm is not there, which would fetch onnxruntime-web; install Node.js")
            return None
        for name in DESCRIPTION:
            shutil.copy(root / name, place)
        command = [npm, "ci", "--omit=dev", "--ignore-scripts"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if line.strip()), f"exit status {done.returncode}")
            self.app.display_warning(f"npm could not fetch onnxruntime-web: {reason}")
        found: Path | None = runtime.installed_by_npm(place)
        return found


def _module(path: Path) -> ModuleType:
    """A module of the package, which is not installed while it is built."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
