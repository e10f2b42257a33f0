"""What a fleet makes of millions of pictures: on Ray's own fake cluster, and a thousand actors simulated by events.

`ray` is what `fastnst batch` does on a cluster, whose nodes are processes of this machine, with actors that sleep for
the time that a block of pictures takes: what the driver does for each block, what an actor takes of memory, and that
nothing is lost when nodes die. Each actor is a process of about 90 MB of its own, so a thousand do not fit on a small
machine; but to the driver fewer actors with shorter blocks are the same number of blocks a second.

`fleet` takes what was measured there and by scale_numbers.py, and goes through a run of any size block by block: actors
that paint, a driver that serves one block after the other, an object store that takes so many requests a second, nodes
that die and come back.

Usage: .venv/bin/python scripts/simulate_fleet.py ray --nodes 4 --actors 8 --blocks 4000
       .venv/bin/python scripts/simulate_fleet.py fleet --actors 1000 --pictures 1e7 --picture-ms 90 --block-size 64
"""

import heapq
import json
import logging
import os
import random
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

from cyclopts import App, Parameter
from scale_numbers import rounded, table, with_tables

from fastnst.batch.items import Item
from fastnst.batch.journal import Journal
from fastnst.batch.rows import Row
from fastnst.batch.tasks import Done, Pictures, Task, blocks, items_of_work
from fastnst.config import StylizeOptions
from fastnst.config.ranges import Checked, Range

app = App(name="simulate_fleet.py", version_flags=[], help_format="plaintext")

IN_FLIGHT = 2  # blocks that an actor has: the one it paints, and the next
Positive = Range(0, above=True)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RayOptions(Checked):
    """A fake cluster, and what it does."""

    nodes: Annotated[int, Range(1)] = 4
    """nodes of the cluster, each some processes here"""
    actors: Annotated[int, Range(1)] = 4
    """actors on each node, each a process here"""
    blocks: Annotated[int, Range(8)] = 2000
    """tasks"""
    block_size: Annotated[int, Range(1)] = 16
    """pictures in a task"""
    seconds: Annotated[float, Range(0)] = 0
    """what a task takes"""
    kill: Annotated[int, Range(0)] = 0
    """nodes that are removed on the way"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FleetOptions(Checked):
    """A run, and what its parts take."""

    pictures: Annotated[float, Range(1)] = 1e7
    """how many"""
    actors: Annotated[int, Range(1)] = 1000
    """how many, on one core each"""
    per_node: Annotated[int, Range(1)] = 16
    """actors of a node"""
    block_size: Annotated[int, Range(1)] = 16
    """pictures in a task"""
    picture_ms: Annotated[float, Positive] = 90
    """core-milliseconds of a picture: the column `sum` of docs/scale.md"""
    spread: Annotated[float, Range(0, 1)] = 0.1
    """how much nodes differ in speed: the standard deviation, as a share"""
    driver_ms: Annotated[float, Range(0)] = 4.4
    """the driver's core-milliseconds for each task, as `ray` measures them with blocks of different sizes"""
    driver_picture_ms: Annotated[float, Range(0)] = 0.02
    """and for each picture in it"""
    driver_actor_ms: Annotated[float, Range(0)] = 0.2
    """and each second for each actor: Ray Data looks after all of them about ten times a second"""
    requests: Annotated[float, Positive] = 3500
    """requests to write that the object store takes a second, for each prefix"""
    prefixes: Annotated[int, Range(1)] = 1
    """prefixes that paintings are spread over"""
    per_request: Annotated[float, Positive] = 1
    """pictures in a request: 1 for files, the pictures of a part for tars and Parquet"""
    node_hours: Annotated[float | None, Positive] = None
    """mean hours until a node dies [default: none does]"""
    back_minutes: Annotated[float, Range(0)] = 5
    """until another is there and its actors have opened the style"""
    core_hour: Annotated[float, Positive] = 0.04
    """price of an hour of one core, dollars"""
    seed: int = 0
    """of the speeds and deaths of nodes"""

    @property
    def painting(self) -> float:
        """Seconds that a block takes an actor of a node of mean speed."""
        return self.block_size * self.picture_ms / 1000

    @property
    def driving(self) -> float:
        """Seconds that it takes the driver, whose time is not all for blocks; half of it is, however many actors."""
        left = max(0.5, 1 - self.actors * self.driver_actor_ms / 1000)
        return (self.driver_ms + self.driver_picture_ms * self.block_size) / 1000 / left

    @property
    def storing(self) -> float:
        """Seconds that its requests take the object store."""
        return max(1, self.block_size / self.per_request) / (self.requests * self.prefixes)


@dataclass(frozen=True)
class Measured:
    """What a run on the fake cluster was."""

    pictures: int  # that are in the manifest
    actors: int
    seconds: float
    blocks_per_second: float  # in the middle half of the run
    driver_ms: float  # core-milliseconds a block
    actor_megabytes: float  # of its own


@dataclass(frozen=True)
class Run:
    """What became of a simulated run."""

    hours: float
    ideal_hours: float  # with nothing but painting
    efficiency: float
    driver_busy: float  # shares of the time
    store_busy: float
    deaths: int
    painted_again: float  # time that was lost by deaths, as a share of all painting
    tail_minutes: float  # from the first actor that has nothing to do to the end
    dollars: float
    most_actors: float  # that the driver feeds


@app.command(name="ray")
def on_ray(options: RayOptions = RayOptions()) -> Measured:
    """Run blocks that are slept over on a fake cluster."""
    # Read when ray is imported: nothing is sent anywhere, and its own progress is not shown.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DATA_DISABLE_PROGRESS_BARS="1", RAY_BACKEND_LOG_LEVEL="fatal")
    import ray
    import ray.data
    from ray.cluster_utils import Cluster

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    nodes = [cluster.add_node(num_cpus=options.actors, **small) for _ in range(options.nodes)]
    try:
        ray.init(address=cluster.address, logging_level="CRITICAL", log_to_driver=False)
        with tempfile.TemporaryDirectory() as folder:
            measured = _measured(options, folder, lambda: cluster.remove_node(nodes.pop()))
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(asdict(measured)))
    return measured


def _measured(options: RayOptions, folder: str, remove_node: Callable[[], object]) -> Measured:
    """Rows go into a journal as they come; nodes are removed after equal shares of the blocks."""
    stamps, megabytes, removed = list[tuple[float, float]](), 0.0, 0  # seconds, and those of the driver's processor
    tasks, started = list(_tasks(options)), time.perf_counter()
    with Journal(folder, f"{folder}/manifest.jsonl") as journal, closing(_slept_over(tasks, options)) as results:
        for done in results:
            journal.add(done.rows)
            stamps.append((time.perf_counter() - started, time.process_time()))
            if len(stamps) == options.blocks // 2:
                megabytes = _actor_megabytes()
            if removed < options.kill and len(stamps) >= (removed + 1) * options.blocks // (options.kill + 1):
                removed += 1
                remove_node()
        totals = journal.finish()
    quarter = options.blocks // 4  # the first and the last are those in which actors start and end
    count, (begun, cpu), (ended, cpu_then) = options.blocks - 2 * quarter, stamps[quarter - 1], stamps[-quarter - 1]
    return Measured(
        pictures=totals.painted,
        actors=options.nodes * options.actors,
        seconds=stamps[-1][0],
        blocks_per_second=count / (ended - begun),
        driver_ms=1000 * (cpu_then - cpu) / count,
        actor_megabytes=megabytes,
    )


def _tasks(options: RayOptions) -> Iterator[Task]:
    names = (f"folder-{number // 1000:06d}/{number:09d}.jpg" for number in range(options.blocks * options.block_size))
    items = (Item(f"s3://pictures/photos/{name}", f"s3://pictures/photos/{name}", name) for name in names)
    return (Task(number, Pictures(block)) for number, block in enumerate(blocks(items, options.block_size)))


def _slept_over(tasks: Sequence[Task], options: RayOptions) -> Generator[Done]:
    """What became of each block, on all actors of the cluster."""
    from fastnst.batch import on_ray
    from fastnst.batch.cluster import Cluster
    from fastnst.batch.spec import Spec

    seconds = options.seconds

    class Painter:
        def do(self, task: Task, _: object = None) -> Done:
            time.sleep(seconds)
            items = items_of_work(task.work)
            return Done(task.number, tuple(Row(item.key, item.kept, "painted", sha256="0" * 64) for item in items))

    class Worker(on_ray.Worker):  # defined here, so that it travels to actors, who do not have this script
        def __init__(self, _: Spec, run: str) -> None:
            self.painter, self.run = Painter(), run

    on_ray.Worker = Worker
    cluster = Cluster(options.nodes * options.actors, 1.0, 0.0)
    yield from on_ray.OnRay(cluster, Spec("", StylizeOptions()), "simulated").paint(tasks)


def _actor_megabytes() -> float:
    """Memory of its own that a process of an actor takes: the mean."""
    sizes = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            if (process / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                rows = re.findall(r"Private_\w+: +(\d+) kB", (process / "smaps_rollup").read_text())
                sizes.append(sum(map(int, rows)) / 1000)
    return mean(sizes) if sizes else 0.0


@app.command(name="fleet")
def fleet(options: FleetOptions = FleetOptions()) -> Run:
    """Simulate a run of any size, event by event."""
    run = Fleet(options).run()
    print(json.dumps(asdict(run)))
    return run


TABLE: dict[str, dict[str, Any]] = {
    "files, blocks of 16, one prefix": {"block_size": 16},
    "files, blocks of 128, one prefix": {"block_size": 128},
    "files, blocks of 128, in 16 prefixes": {"block_size": 128, "prefixes": 16},
    "the same, nodes live 20 hours": {"block_size": 128, "prefixes": 16, "node_hours": 20},
    "tars of 1000": {"block_size": 1000, "per_request": 1000},
    "the same, nodes live 20 hours ": {"block_size": 1000, "per_request": 1000, "node_hours": 20},
}


@app.command(name="table")
def thousand(pictures: float = 1e8, picture_ms: float = 100, page: Path | None = None) -> None:
    """The table of docs/scale.md: a thousand actors and some ways to run them; `page` has it between its marks."""
    heads = ["paintings", "hours", "of the best", "driver busy", "store busy", "deaths", "lost", "actors it feeds"]
    rows = []
    for name, ways in TABLE.items():
        run = Fleet(FleetOptions(pictures=pictures, picture_ms=picture_ms, **ways)).run()
        shares = [f"{100 * share:.0f} %" for share in (run.efficiency, run.driver_busy, run.store_busy)]
        lost = f"{100 * run.painted_again:.1f} %"
        rows.append([name.strip(), f"{run.hours:.2f}", *shares, str(run.deaths), lost, rounded(run.most_actors)])
    text = table(heads, rows)
    if page is None:
        print(text)
    else:
        page.write_text(with_tables(page.read_text(), {"thousand": text}))


class Server:
    """What does one thing after the other: the driver, the object store."""

    def __init__(self) -> None:
        self.free_at = self.busy = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When something that is asked for now, and takes so long, is done."""
        self.free_at = max(self.free_at, now) + seconds
        self.busy += seconds
        return self.free_at


class Actor:
    """What it has to paint, and from when to when it paints each; a death makes all of it worthless."""

    def __init__(self, node: int) -> None:
        self.node, self.life, self.free_at = node, 0, 0.0
        self.begun = deque[float]()  # when each block that it has is begun


class Fleet:
    """A run: blocks that wait, actors on nodes, the driver, the object store, and what happens when."""

    def __init__(self, options: FleetOptions) -> None:
        self.options, self.random = options, random.Random(options.seed)
        self.blocks = max(1, round(options.pictures / options.block_size))
        self.waiting = self.blocks
        self.driver, self.store = Server(), Server()
        self.nodes = -(-options.actors // options.per_node)
        self.speeds = [max(0.2, self.random.gauss(1, options.spread)) for _ in range(self.nodes)]
        self.actors = [Actor(number // options.per_node) for number in range(options.actors)]
        self.idle = deque(self.actors)  # in the order in which they ask, once for each block they have room for
        self.idle.extend(self.actors)
        self.events: list[tuple[float, int, str, Any, int]] = []
        self.count = self.done = self.deaths = 0
        self.lost = 0.0
        self.first_idle: float | None = None

    def run(self) -> Run:
        """Everything that happens, in order, until the last block is done."""
        options, now = self.options, 0.0
        for node in range(self.nodes):
            self._death(0, node)
        self._hand_out(0)
        while self.done < self.blocks:
            now, _, kind, what, life = heapq.heappop(self.events)
            {"painted": self._painted, "stored": self._stored, "dies": self._dies, "back": self._back}[kind](
                now, what, life
            )
        ideal = self.blocks * options.painting / options.actors
        return Run(
            hours=now / 3600,
            ideal_hours=ideal / 3600,
            efficiency=ideal / now,
            driver_busy=self.driver.busy / now,
            store_busy=self.store.busy / now,
            deaths=self.deaths,
            painted_again=self.lost / (self.blocks * options.painting),
            tail_minutes=(now - (now if self.first_idle is None else self.first_idle)) / 60,
            dollars=now / 3600 * options.actors * options.core_hour,
            most_actors=options.painting / options.driving if options.driving else float("inf"),
        )

    def _at(self, when: float, kind: str, what: Any, life: int = 0) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, kind, what, life))

    def _hand_out(self, now: float) -> None:
        """Blocks for those who ask, each after the driver had time for it."""
        while self.waiting and self.idle:
            actor = self.idle.popleft()
            self.waiting -= 1
            begins = max(self.driver.serve(now, self.options.driving), actor.free_at)
            actor.begun.append(begins)
            actor.free_at = begins + self.options.painting / self.speeds[actor.node]
            self._at(actor.free_at, "painted", actor, actor.life)

    def _painted(self, now: float, actor: Actor, life: int) -> None:
        if life == actor.life:
            self._at(self.store.serve(now, self.options.storing), "stored", actor, life)

    def _stored(self, now: float, actor: Actor, life: int) -> None:
        if life != actor.life:
            return
        self.done += 1
        actor.begun.popleft()
        self.idle.append(actor)
        self._hand_out(now)
        if self.first_idle is None and not actor.begun:
            self.first_idle = now

    def _death(self, now: float, node: int) -> None:
        if self.options.node_hours is not None:
            self._at(now + self.random.expovariate(1 / (3600 * self.options.node_hours)), "dies", node)

    def _dies(self, now: float, node: int, _: int) -> None:
        """What its actors had is painted again by others; for a while there is none in their place."""
        self.deaths += 1
        gone = set(self._of(node))
        for actor in gone:
            self.waiting += len(actor.begun)
            self.lost += sum(min(self.options.painting, max(0.0, now - begun)) for begun in actor.begun)
            actor.life += 1
            actor.begun.clear()
        self.idle = deque(actor for actor in self.idle if actor not in gone)
        self._at(now + 60 * self.options.back_minutes, "back", node)
        self._hand_out(now)

    def _back(self, now: float, node: int, _: int) -> None:
        for actor in self._of(node):
            actor.free_at = now
            self.idle.extend([actor] * IN_FLIGHT)
        self._death(now, node)
        self._hand_out(now)

    def _of(self, node: int) -> Iterator[Actor]:
        first = node * self.options.per_node
        return iter(self.actors[first : first + self.options.per_node])


if __name__ == "__main__":
    app(result_action="return_none")
