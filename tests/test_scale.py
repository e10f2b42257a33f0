"""Fleets: the arithmetic of docs/scale.md, the simulated ones, and the examples, each by the program it is for."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.material import PHOTOS, ROOT, Run
from PIL import Image

from fastnst.cli.main import app  # with all its commands

SCRIPTS, EXAMPLES = ROOT / "scripts", ROOT / "examples" / "scale"
PAGE = (ROOT / "docs" / "scale.md").read_text()


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


numbers = script("scale_numbers")
simulated = script("simulate_fleet")


def run_script(name: str, *words: object) -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, SCRIPTS / name, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def tables(name: str) -> list[dict[str, str]]:
    """The rows of one of the page's tables."""
    (text,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE, flags=re.DOTALL)
    heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [dict(zip(heads, row, strict=True)) for row in rows]


def number(text: str) -> float:
    return float(text.replace(",", "").removesuffix(" %"))


class TestNumbers:
    # 100 core-milliseconds of which 90 are painting; 50 KB in, 150 KB out
    COST = numbers.Cost("fast", 512, 0.004, 0.09, 0.005, 0.001, 0.1, 50_000, 150_000)

    def test_arithmetic_of_a_picture(self):
        cost = self.COST

        assert cost.total == pytest.approx(0.1)
        assert cost.rate == pytest.approx(10)
        assert cost.core_hours(36_000_000) == pytest.approx(1000)
        assert cost.cents(0.036) == pytest.approx(100)  # 10^6 pictures are 27.8 core-hours of 3.6 cents
        assert cost.beside == pytest.approx(0.01)
        assert cost.megabits(10) == pytest.approx(16)
        assert cost.widest == "paint"

    def test_the_bottleneck_moves_from_the_gpu_to_its_cores_and_its_network(self):
        def narrowest(rate: float, cores: int, network: float) -> tuple[str, str]:
            options = numbers.Options(gpu_rate=(rate,), gpu_cores=cores, network=network)
            *_, row = numbers.gpu_table([self.COST], options).splitlines()
            *_, reached, name, _ = (cell.strip() for cell in row.strip("|").split("|"))
            return reached, name

        assert narrowest(500, 8, 10) == ("500", "paint")
        assert narrowest(1000, 8, 10) == ("800", "decode and encode")  # 8 cores / 10 ms
        assert narrowest(1000, 8, 1) == ("625", "network")  # 1 Gbit/s / 1.6 Mbit

    def test_script_measures_and_puts_tables_into_a_page(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("One\n<!-- picture -->\nold\n<!-- end -->\nother\n<!-- end -->\n")
        small = ["--style", "great-wave-tiny", "--size", "64", "--photos", "2", "--rounds", "1"]

        (tmp_path / "costs.json").write_text(run_script("scale_numbers.py", *small, "--json"))
        run_script("scale_numbers.py", "--measured", tmp_path / "costs.json", "--page", page)

        (cost,) = (numbers.Cost(**one) for one in json.loads((tmp_path / "costs.json").read_text()))
        assert (cost.style, cost.size) == ("great-wave-tiny", 64)
        assert all(seconds > 0 for seconds in (cost.decode, cost.paint, cost.encode, cost.store, cost.together))
        assert cost.read > 1000
        assert page.read_text().startswith("One\n<!-- picture -->\n| style | size |")
        assert page.read_text().endswith("|\n<!-- end -->\nother\n<!-- end -->\n")
        assert "old" not in page.read_text()


COSTS = {(row["style"], row["size"]): row for row in tables("picture")}


class TestPage:
    """Its numbers follow from those of its first table, as it says."""

    def near(self, text: str, expected: float) -> bool:
        return number(text) == pytest.approx(expected, rel=0.03, abs=0.06)

    def test_a_picture(self):
        for row in COSTS.values():
            total = sum(number(row[stage]) for stage in numbers.STAGES)
            assert self.near(row["sum"], total)
            assert self.near(row["pictures/s"], 1000 / total)
            assert self.near(row["cents a million"], 1e6 * total / 1000 / 3600 * 4)
            assert 0.5 < number(row["all at once"]) / total < 1.5

    def test_a_fleet(self):
        for row in tables("fleet"):
            cost = COSTS[row["style"], row["size"]]
            hours = 1e6 * number(cost["sum"]) / 1000 / 3600
            assert self.near(row["core-hours a million"], hours)
            assert self.near(row["cores for 10^9 in 24 h"], 1000 * hours / 24)
            assert self.near(row["TB in, 10^9"], number(cost["KB in"]))

    def test_a_bill(self):
        for row in tables("bill"):
            cost = COSTS[row["style"], row["size"]]
            assert self.near(row["cores"], 1000 * number(cost["cents a million"]) / 100)
            assert self.near(row["a month there"], 23 * (number(cost["KB in"]) + number(cost["KB out"])))

    def test_a_node(self):
        for row in tables("node"):
            cost = COSTS[row["style"], row["size"]]
            rate = 64 * number(cost["pictures/s"])
            assert self.near(row["pictures/s"], rate)
            assert self.near(row["Mbit/s"], rate * (number(cost["KB in"]) + number(cost["KB out"])) * 8 / 1000)

    def test_a_gpu(self):
        for row in tables("gpu"):
            cost = COSTS["`great-wave-base`", row["size"]]
            beside = sum(number(cost[stage]) for stage in ("decode", "encode", "store"))
            assert self.near(row["cores that feed it"], number(row["a GPU paints, pictures/s"]) * beside / 1000)

    def test_a_thousand_actors(self):
        rows = tables("thousand")

        assert [row["paintings"] for row in rows] == [name.strip() for name in simulated.TABLE]
        for row, ways in zip(rows, simulated.TABLE.values(), strict=True):
            fleet = simulated.FleetOptions(picture_ms=100, **ways)
            assert self.near(row["actors it feeds"], fleet.painting / fleet.driving)
        feeds = PAGE.split("**The driver** feeds")[1]
        assert all(row["actors it feeds"] in feeds for row in rows)

    def test_its_commands_run_in_order(self, fastnst: Run, tmp_path: Path):
        make_photos(tmp_path, 4)

        for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL):
            for line in block.splitlines():
                done = fastnst(*shlex.split(line)[1:])
                assert done.returncode == 0, done.stderr.decode()

        rows = [json.loads(line) for line in (tmp_path / "shares" / "manifest.jsonl").read_text().splitlines()]
        assert len(rows) == 4

    def test_its_scripts_have_the_options_that_it_shows(self):
        lines = re.findall(r"\$ python scripts/(\w+)\.py (.*?)(?: +#.*)?$", PAGE, flags=re.MULTILINE)

        for name, words in lines:
            program = {"scale_numbers": numbers.app, "simulate_fleet": simulated.app}[name]
            program.parse_args(shlex.split(words), exit_on_error=False, print_error=False)
        assert len(lines) >= 5


class TestFleet:
    def run(self, **options):
        defaults = {
            "pictures": 64_000,
            "actors": 100,
            "picture_ms": 100,
            "spread": 0,
            "prefixes": 1000,
            "driver_actor_ms": 0,
        }
        return simulated.Fleet(simulated.FleetOptions(**{**defaults, **options})).run()

    def test_without_overhead_it_takes_as_long_as_the_painting(self):
        run = self.run(driver_ms=0, driver_picture_ms=0, requests=1e9)

        assert run.hours == pytest.approx(64_000 * 0.1 / 100 / 3600, rel=1e-3)
        assert run.efficiency == pytest.approx(1, rel=1e-3)
        assert (run.deaths, run.painted_again) == (0, 0)

    def test_a_driver_that_is_too_slow_sets_the_pace(self):
        run = self.run(driver_ms=100, driver_picture_ms=0)

        assert run.most_actors == pytest.approx(16)
        assert run.hours == pytest.approx(64_000 / 16 * 0.1 / 3600, rel=0.02)
        assert run.driver_busy > 0.98

    def test_looking_after_actors_takes_its_share_of_the_driver(self):
        run = self.run(driver_ms=100, driver_picture_ms=0, driver_actor_ms=2)  # of 100 actors: a fifth of its time

        assert run.most_actors == pytest.approx(0.8 * 16)

    def test_a_store_that_is_too_slow_sets_the_pace(self):
        run = self.run(requests=500, prefixes=1)

        assert run.hours == pytest.approx(64_000 / 500 / 3600, rel=0.05)
        assert run.store_busy > 0.95

    def test_larger_blocks_ask_less_of_the_driver_and_tars_less_of_the_store(self):
        assert self.run(block_size=64).driver_busy < self.run(block_size=16).driver_busy / 2
        assert self.run(per_request=16).store_busy == pytest.approx(self.run().store_busy / 16, rel=0.01)

    def test_what_dies_is_painted_again(self):
        run = self.run(node_hours=0.02, back_minutes=0.1)

        assert run.deaths > 0
        assert 0 < run.painted_again < 1
        assert run.hours > self.run().hours
        assert run == self.run(node_hours=0.02, back_minutes=0.1)

    @pytest.mark.long
    def test_on_ray_itself_nothing_is_lost_when_a_node_dies_and_no_run_beats_the_simulated_one(self):
        pytest.importorskip("ray", reason="ray is not installed")
        words = ["--nodes", 2, "--actors", 1, "--blocks", 24, "--block-size", 10, "--seconds", 0.1]

        ran = json.loads(run_script("simulate_fleet.py", "ray", *words, "--kill", 1).splitlines()[-1])

        best = self.run(pictures=240, block_size=10, actors=2, picture_ms=10, driver_ms=0, driver_picture_ms=0)
        assert ran["pictures"] == 240
        assert ran["actors"] == 2
        assert ran["seconds"] > 0.99 * 3600 * best.hours
        assert ran["driver_ms"] > 0


def make_photos(folder: Path, count: int) -> None:
    (folder / "photos").mkdir()
    for path in sorted(PHOTOS.glob("*.jpg"))[:count]:
        with Image.open(path) as photo:
            photo.thumbnail((96, 96))
            photo.save(folder / "photos" / path.name)


def resources(name: str) -> list[dict]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def commands_in(text: str) -> list[str]:
    """The command lines of fastnst in an example, with words in the place of what a shell puts in."""
    text = re.sub(r"^#\s*", "", text, flags=re.MULTILINE)
    text = re.sub(r"\s*\\\n\s*|(?<=photos)\n\s+(?=--)|(?<=paintings)\n\s+(?=--)", " ", text)
    lines = re.findall(r"fastnst (?:batch|merge) [^\n`]*", text)
    whole = [re.split(r" \|\| ", line)[0] for line in lines]
    return [line.removesuffix('"') if line.count('"') % 2 else line for line in whole]


def understood(words: list[str]) -> bool:
    """Whether these are a command line of fastnst; raises if not."""
    filled = [re.sub(r'"?\$(\{[^}]*\}|\([^)]*\)|\w+|@)"?', "1", word) for word in words]
    app.parse_args(filled, exit_on_error=False, print_error=False)
    return True


class TestExamples:
    @pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
    def test_it_is_on_the_page_and_has_command_lines_of_fastnst(self, path):
        text = path.read_text()

        assert f"](../examples/scale/{path.name})" in PAGE
        if path.name == "kubernetes-job.yaml":
            (container,) = resources(path.name)[0]["spec"]["template"]["spec"]["containers"]
            assert understood(container["args"])
        elif path.name == "parallel.sh":
            (line,) = re.findall(r"printf '%q ' fastnst (.*) \"\$\{@:5\}\"", text)
            assert understood([*shlex.split(line), "--shard", "1/2"])
        else:
            found = [understood(shlex.split(line)[1:]) for line in commands_in(text)]
            assert found

    def test_lines_of_the_page_are_command_lines(self):
        found = re.findall(r"^\$ fastnst (.*?)(?: +#.*)?$", PAGE, flags=re.MULTILINE)

        assert all(understood(shlex.split(line)) for line in found)
        assert len(found) >= 2

    def test_ray_takes_its_cluster(self):
        util = pytest.importorskip("ray.autoscaler._private.util", reason="ray is not installed")
        (config,) = resources("ray-cluster.yaml")

        filled = util.prepare_config(config)

        util.validate_config(filled)  # raises
        assert filled["head_setup_commands"] == filled["worker_setup_commands"] == []
        assert all(
            command.count("--object-store-memory=") == 1
            for command in (starts(filled, "head"), starts(filled, "worker"))
        )
        assert filled["available_node_types"]["painters"]["min_workers"] == filled["max_workers"]

    def test_ray_refuses_what_is_wrong(self):
        util = pytest.importorskip("ray.autoscaler._private.util", reason="ray is not installed")
        (config,) = resources("ray-cluster.yaml")

        with pytest.raises(Exception, match="workres"):
            util.validate_config(util.prepare_config({**config, "max_workres": 3}))

    def test_kubernetes_takes_the_job(self):
        check = kubernetes()
        (job,) = resources("kubernetes-job.yaml")

        check(job)
        shares = job["spec"]["completions"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert f"--shard=$(JOB_COMPLETION_INDEX)/{shares}" in container["args"]
        assert f"--actors={container['resources']['limits']['cpu']}" in container["args"]
        with pytest.raises(Exception, match="completion"):
            check({**job, "spec": {**job["spec"], "completion": 3}})

    @pytest.mark.parametrize(("name", "kind"), [("kuberay-job.yaml", "RayJob"), ("kuberay-cluster.yaml", "RayCluster")])
    def test_kubernetes_takes_the_pods_of_kuberay(self, name, kind):
        check = kubernetes()
        (resource,) = resources(name)
        cluster = resource["spec"].get("rayClusterSpec", resource["spec"])

        assert (resource["apiVersion"], resource["kind"]) == ("ray.io/v1", kind)
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
            check(pod)
            (container,) = pod["spec"]["containers"]
            assert container["resources"]["requests"] == container["resources"]["limits"]
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert cluster["authOptions"] == {"mode": "token"}

    def test_clusters_of_kuberay_are_the_same(self):
        (job,), (cluster,) = resources("kuberay-job.yaml"), resources("kuberay-cluster.yaml")

        assert job["spec"]["rayClusterSpec"] == cluster["spec"]

    @pytest.mark.parametrize("path", [*EXAMPLES.glob("*.sh"), *EXAMPLES.glob("*.sbatch")], ids=lambda path: path.name)
    def test_shells_take_the_scripts(self, path):
        subprocess.run(["bash", "-n", path], check=True)
        if shutil.which("shellcheck") is None:
            pytest.skip("shellcheck is not installed")
        subprocess.run(["shellcheck", path], check=True)

    def test_parallel_paints_every_share(self, tmp_path):
        needed("parallel")
        make_photos(tmp_path, 4)
        (tmp_path / "machines").write_text(":\n2/:\n")

        words = ["machines", "photos", "paint ings", "great-wave-tiny", "--address", "none"]
        subprocess.run([EXAMPLES / "parallel.sh", *words], cwd=tmp_path, env=with_fastnst(), check=True)

        assert manifests(tmp_path / "paint ings") == [f"manifest-{share}-of-2.jsonl" for share in (1, 2)]
        assert len(list((tmp_path / "paint ings").glob("*.jpg"))) == 4

    @pytest.mark.parametrize("name", ["slurm-array.sbatch", "slurm-ray.sbatch"])
    def test_slurm_takes_the_script(self, slurm, name):
        small = ["--nodes=1", "--cpus-per-task=1", "--mem=500M"]  # more than that is not in this cluster

        done = subprocess.run(
            ["sbatch", "--test-only", *small, EXAMPLES / name, "a", "b"], env=slurm, capture_output=True
        )

        assert done.returncode == 0, done.stderr.decode()
        assert b"to start at" in done.stderr

    def test_slurm_paints_every_share(self, slurm, tmp_path):
        make_photos(tmp_path, 4)

        words = ["photos", "paintings", "great-wave-tiny"]
        small = ["--wait", "--mem=500M", "--array=1-2"]
        command = ["sbatch", *small, EXAMPLES / "slurm-array.sbatch", *words]
        done = subprocess.run(command, cwd=tmp_path, env=slurm, capture_output=True, timeout=120)

        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert done.returncode == 0, done.stderr.decode() + logs
        assert manifests(tmp_path / "paintings") == [f"manifest-{share}-of-2.jsonl" for share in (1, 2)]
        assert len(list((tmp_path / "paintings").glob("*.jpg"))) == 4


def starts(config: dict, kind: str) -> str:
    """How Ray's launcher starts it on a node."""
    return config[f"{kind}_start_ray_commands"][-1]


def kubernetes():
    """Raises if a resource is none of the newest Kubernetes that the package knows."""
    known = pytest.importorskip("kubernetes_validate.utils", reason="kubernetes-validate is not installed")
    return lambda resource: known.validate(resource, known.major_minor(known.latest_version()), strict=True)


def manifests(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("manifest*"))


def needed(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")


def with_fastnst() -> dict[str, str]:
    """An environment in which fastnst is that of this interpreter."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster of this machine that knows no other: Slurm's own daemons, without authentication."""
    needed("slurmctld", "slurmd", "sbatch", "srun")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs only for root")
    folder, host = tmp_path_factory.mktemp("slurm"), os.uname().nodename.split(".")[0]
    port = 20_000 + 2 * (os.getpid() % 5_000)
    (folder / "slurm.conf").write_text(
        SLURM.format(folder=folder, host=host, cores=os.cpu_count(), first=port, second=port + 1)
    )
    environment = {**with_fastnst(), "SLURM_CONF": str(folder / "slurm.conf")}
    with open(folder / "output", "wb") as output:
        daemons = [
            subprocess.Popen([name, "-D"], env=environment, stdout=output, stderr=output, start_new_session=True)
            for name in ("slurmctld", "slurmd")
        ]
        try:
            await_slurm(environment, folder / "output")
            yield environment
        finally:
            for daemon in daemons:
                daemon.terminate()
                daemon.wait()


def await_slurm(environment: dict[str, str], output: Path) -> None:
    for _ in range(120):
        state = subprocess.run(["sinfo", "--noheader", "--format=%t"], env=environment, capture_output=True, text=True)
        if state.stdout.split() == ["idle"]:
            return
        time.sleep(0.5)
    pytest.skip(f"Slurm does not start here: {output.read_text(errors='replace')[-500:]}")


SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={first}
SlurmdPort={second}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
