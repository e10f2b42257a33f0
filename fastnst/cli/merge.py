"""The command that makes one manifest of those of several shards: merge."""

import json
from typing import Annotated

from cyclopts import Parameter

from fastnst.cli.app import JsonVerbosity, app
from fastnst.config.shared import OverwriteOption
from fastnst.files import printable


@app.command
def merge(
    manifests: Annotated[list[str], Parameter(name="MANIFEST", consume_multiple=True)],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o")],
    overwriting: OverwriteOption = OverwriteOption(),
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Make one manifest of those that the shards of a batch wrote.

    Parameters
    ----------
    manifests:
        .jsonl or .parquet files, local or remote, or patterns of them
    output:
        the .jsonl or .parquet file
    """
    verbosity.start()
    from fastnst.batch.merge import merge_manifests

    totals = merge_manifests(manifests, output, overwrite=overwriting.overwrite)
    if verbosity.as_json:
        print(json.dumps({"manifest": printable(output), **totals.to_json()}))
        return 0
    codes = ", ".join(f"{count} {code}" for code, count in sorted(totals.failed.items()))
    print(
        f"{printable(output)}: {totals.painted} painted, {totals.failed.total()} failed{f' ({codes})' if codes else ''}"
    )
    return 0
