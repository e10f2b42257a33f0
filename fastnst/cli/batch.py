"""The command that paints millions: batch."""

import json
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fastnst.cli.app import JsonVerbosity, app
from fastnst.config import BatchOptions, ClipOptions, OnnxOptions, StyleOptions, StylizeOptions
from fastnst.errors import Interrupted
from fastnst.files import printable

if TYPE_CHECKING:
    from fastnst.batch.rows import Row
    from fastnst.batch.run import Outcome
    from fastnst.progress import Progress

_RECENT = 200  # blocks, over which the pace is measured


@app.command
def batch(
    inputs: Annotated[list[str], Parameter(name="INPUT", consume_multiple=True)],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o")],
    style: StyleOptions = StyleOptions(),
    batch: BatchOptions = BatchOptions(),
    options: StylizeOptions = StylizeOptions(),
    onnx: OnnxOptions = OnnxOptions(),
    clip: ClipOptions = ClipOptions(),
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Stylize any number of pictures and clips, on any number of cores and machines, with Ray Data.

    What became of each input is in a manifest beside the paintings. The same command again does what is missing.

    Parameters
    ----------
    inputs:
        folders, patterns, pictures and clips, .txt lists of them, .parquet or .jsonl tables, WebDataset .tar files;
        on this machine, or at addresses such as s3://bucket/photos
    output:
        a folder, on this machine or at an address
    """
    verbosity.start()
    from fastnst.batch.run import Hooks, run_batch
    from fastnst.batch.spec import spec_of

    spec = spec_of(
        output,
        style.style,
        options,
        clip,
        batch.store,
        mix=style.mix,
        engine=style.engine,
        device=style.device,
        onnx=onnx,
    )
    with _Shown(verbosity) as shown:
        try:
            outcome = run_batch(inputs, spec, batch, Hooks(shown.on_plan, shown.on_rows))
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            name = signal.Signals(number).name
            told = f"stopped by {name}; what is painted is kept, and the same command goes on from there"
            raise Interrupted(told, number) from None
    _print_outcome(outcome, verbosity)
    return 1 if outcome.totals.failed else 0


class _Shown:
    """Progress of a batch on stderr; failures as they come with -v, else how many there are."""

    def __init__(self, verbosity: JsonVerbosity) -> None:
        self.verbosity, self.stack = verbosity, ExitStack()
        self.progress: Progress | None = None
        self.failed = 0
        self.times: deque[tuple[float, int]] = deque(maxlen=_RECENT)  # when so many were done

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def on_plan(self, left: int, settled: int) -> None:
        """So many inputs are to be painted, and so many are already."""
        from fastnst.progress import Progress

        if settled and not self.verbosity.quiet:
            print(f"fastnst: {settled} of {left + settled} are there already", file=sys.stderr)
        self.times.append((time.monotonic(), 0))
        if left:
            self.progress = self.stack.enter_context(Progress("painting", left, "picture", quiet=self.verbosity.quiet))

    def on_rows(self, rows: "Sequence[Row]") -> None:
        """These are done."""
        for row in rows:
            if not row.painted:
                self.failed += 1
                if self.verbosity.verbose:
                    print(f"fastnst: {row.error}", file=sys.stderr)
        if self.progress is not None and rows:
            done = self.progress.done + len(rows)
            self.times.append((time.monotonic(), done))
            if len(self.times) == 3 and self.times[0][1] == 0:
                self.times.popleft()  # the time until all is started says nothing of what is left
            (start, before), (now, _) = self.times[0], self.times[-1]
            rate = (done - before) / max(now - start, 1e-3)
            self.progress.at(done, f"{self.failed} failed" if self.failed else "", rate)


def _print_outcome(outcome: "Outcome", verbosity: JsonVerbosity) -> None:
    rate = (outcome.painted + sum(outcome.failed.values())) / max(outcome.seconds, 1e-9)
    if verbosity.as_json:
        print(
            json.dumps(
                {
                    "painted": outcome.painted,
                    "failed": outcome.failed,
                    "already": outcome.settled,
                    "seconds": round(outcome.seconds, 3),
                    "pictures_per_second": round(rate, 3),
                    "actors": outcome.actors,
                    "manifest": printable(outcome.manifest),
                    "totals": outcome.totals.to_json(),
                }
            )
        )
        return
    from fastnst.cli.tables import print_table

    failed, everything = Counter(outcome.failed), outcome.totals
    rows = [["painted", str(outcome.painted), str(everything.painted)]]
    for code in sorted({*failed, *everything.failed}):
        rows.append([f"failed: {code}", str(failed[code]), str(everything.failed[code])])
    print_table(["", "this run", "manifest"], rows)
    if not verbosity.quiet:
        print(f"{outcome.seconds:.1f} seconds, {rate:.2f} a second", file=sys.stderr)
    print(printable(outcome.manifest))
