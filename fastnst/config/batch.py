"""Options of painting millions: by whom, in what portions, and where paintings and their manifest go."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from fastnst.config.ranges import Checked, Range
from fastnst.config.shared import Duration
from fastnst.errors import UsageError

StoreKind = Literal["files", "tar", "parquet"]

LOCAL, HERE = "local", "none"  # of --address: a cluster of this machine, and no cluster


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BatchOptions(Checked):
    """How a batch is spread over processes and machines, and kept."""

    address: str = LOCAL
    """who paints: local is a Ray cluster of this machine that ends with the run, auto the one that this machine is a
    node of, HOST:PORT the one with that head, if there are several; none is this process, without Ray"""
    actors: Annotated[int | None, Range(1, 100_000)] = None
    """processes that paint [default: as many as the cluster has cores or GPUs for]"""
    cpus_per_actor: Annotated[float, Range(0, 1024, above=True)] = 1.0
    """cores that each of them gets, and threads of its network"""
    gpus_per_actor: Annotated[float | None, Range(0, 64)] = None
    """GPUs, or the share of one, that each of them gets [default: 1 if it paints on a GPU, else 0]"""
    block_size: Annotated[int, Range(1, 100_000)] = 16
    """pictures that are handed to a process at once, and done again if it dies"""
    column: str | None = None
    """column of a table that has the paths, addresses or bytes of pictures [default: the only one that may]"""
    store: StoreKind = "files"
    """what paintings become: files in the folders of their inputs, or parts of many as tars or Parquet files"""
    part_size: Annotated[int, Range(1, 100_000)] = 1000
    """pictures in a tar or a Parquet file"""
    manifest: str | None = None
    """where it is written what became of each input, .jsonl or .parquet [default: manifest.jsonl in the output]"""
    dedup: bool = False
    """paint pictures of the same content once"""
    retry_failed: bool = False
    """also try again what an earlier run found to be damaged"""
    split: Annotated[Duration, Parameter(show_default=False)] = None
    """cut longer clips into parts of about that length, such as 30s, which are painted side by side and joined"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address.startswith("ray://"):
            raise UsageError(
                f"--address is {self.address}, through which Ray Data does not work; run this on a node of the "
                "cluster, with --address auto, for example by ray job submit"
            )
        given = {"--actors": self.actors, "--gpus-per-actor": self.gpus_per_actor}
        if self.address == HERE and (useless := [name for name, value in given.items() if value is not None]):
            raise UsageError(f"{useless[0]} is for a cluster but --address is none; leave one of them out")
        if self.address == HERE and self.cpus_per_actor != BatchOptions.cpus_per_actor:
            raise UsageError("--cpus-per-actor is for a cluster but --address is none; leave one of them out")
