"""Tasks on Ray Data: a block of pictures each, mapped by a pool of actors that keep their style open.

Ray does the tasks of an actor that died again, for as long as it takes. So that a picture that kills its process does
not do so for ever, actors keep in Ray's own store what they begin: after a first death the pictures of a block are
painted one by one, and one that was in hand at three deaths is given up.
"""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from fastnst.batch.cluster import Cluster
from fastnst.batch.painter import Painter, died_of
from fastnst.batch.rows import failed
from fastnst.batch.spec import Spec
from fastnst.batch.tasks import Contents, Done, Pictures, Task, items_of_work
from fastnst.errors import FastnstError, first_line

DEATHS = 3  # of the process, before what it was at is given up
_ATTEMPTS = 3  # of a wave that Ray itself gave up
_NAMESPACE = b"fastnst"


class Begun:
    """What is known of a task that was begun and not ended: how often, and at which of its pictures processes died."""

    def __init__(self, run: str, number: int) -> None:
        from ray.experimental import internal_kv

        self.store, self.key = internal_kv, f"{run}:{number}".encode()
        known = internal_kv._internal_kv_get(self.key, namespace=_NAMESPACE)
        state: dict[str, Any] = json.loads(known) if known else {}
        self.times: int = state.get("times", 0) + 1
        self.deaths: dict[str, int] = state.get("deaths", {})
        if (at := state.get("at")) is not None:
            self.deaths[at] = self.deaths.get(at, 0) + 1
        self._keep(None)

    def _keep(self, at: str | None) -> None:
        state = json.dumps({"times": self.times, "deaths": self.deaths, "at": at}).encode()
        self.store._internal_kv_put(self.key, state, overwrite=True, namespace=_NAMESPACE)

    def mark(self, number: int) -> bool:
        """One of its pictures is begun; whether it may be: the first death was in company, so it counts for each."""
        if self.deaths.get(str(number), 0) >= DEATHS - 1:
            return False
        self._keep(str(number))
        return True

    def end(self) -> None:
        """The task is done."""
        self.store._internal_kv_del(self.key, namespace=_NAMESPACE)


class Worker:
    """What an actor of Ray Data holds: a painter."""

    def __init__(self, spec: Spec, run: str) -> None:
        self.painter, self.run = Painter(spec), run

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A column of one task -> a column of what became of it."""
        return {"done": _column([self._done(task) for task in batch["task"]])}

    def _done(self, task: Task) -> Done:
        begun = Begun(self.run, task.number)
        try:
            done = self._tried(task, begun)
        except (FastnstError, ModuleNotFoundError) as error:
            done = Done(task.number, error=error)
        begun.end()
        return done

    def _tried(self, task: Task, begun: Begun) -> Done:
        if begun.times == 1:
            return self.painter.do(task)
        if isinstance(task.work, Pictures):
            return self.painter.do(task, begun.mark)
        if begun.times <= DEATHS:
            return self.painter.do(task)
        items = items_of_work(task.work)
        if isinstance(task.work, Contents):
            return Done(task.number, digests=(None,) * len(items))
        return Done(task.number, tuple(failed(item.key, died_of(item), "died") for item in items))


class OnRay:
    """Paints on a cluster that is open."""

    def __init__(self, cluster: Cluster, spec: Spec, run: str) -> None:
        """`run` is a word that no other run on the cluster has."""
        self.cluster, self.spec, self.run = cluster, spec, run
        # Ray Data starts its actors anew for each wave, which should take long beside that.
        self.wave = 2_000 * max(10, cluster.actors)

    def paint(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """What became of each task, as they end, in no order; FastnstError if Ray gives up again and again."""
        left = {task.number: task for task in tasks}
        if not left:
            return
        for attempt in range(1, _ATTEMPTS + 1):
            before = len(left)
            try:
                with closing(self._mapped(list(left.values()))) as results:
                    for done in results:
                        if left.pop(done.number, None) is not None:
                            yield done
            except _ray_errors() as error:
                if attempt == _ATTEMPTS and len(left) == before:
                    raise FastnstError(
                        f"Ray gave up: {first_line(error)}; look at its logs, and run this again"
                    ) from error
            if not left:
                return
        raise FastnstError(f"Ray did not finish {len(left)} of {len(tasks)} tasks; run this again")

    def _mapped(self, tasks: Sequence[Task]) -> Generator[Done]:
        import ray.data

        _keep_quiet(ray.data.DataContext.get_current())
        dataset = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks)).map_batches(
            Worker,
            fn_constructor_args=(self.spec, self.run),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(self.cluster.actors, len(tasks))),
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus or None,
        )
        for batch in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield from batch["done"]


def _column(values: Sequence[Done]) -> Any:
    """Objects as a column of Ray's, one each."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _keep_quiet(context: Any) -> None:
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0


def _ray_errors() -> tuple[type[Exception], ...]:
    from ray.exceptions import RayError

    return (RayError,)
