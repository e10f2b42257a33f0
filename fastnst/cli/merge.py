"""The command that makes one manifest of those of several shards: merge."""

import json
from typing import Annotated

from cyclopts import Parameter

from fastnst.cli.app import JsonVerbosity, app
from fastnst.config.merge import MergeOptions
from fastnst.files import printable


@app.command
def merge(
    manifests: Annotated[list[str], Parameter(name="MANIFEST", consume_multiple=True)],
    /,
    *,
    options: MergeOptions,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Make one manifest of those that the shards of a batch wrote.

    Parameters
    ----------
    manifests:
        .jsonl or .parquet files, local or remote, or patterns of them
    """
    verbosity.start()
    from fastnst.batch.merge import merge_manifests

    totals = merge_manifests(manifests, options.output, overwrite=options.overwrite)
    name = printable(options.output)
    if verbosity.as_json:
        print(json.dumps({"manifest": name, **totals.to_json()}))
        return 0
    codes = ", ".join(f"{count} {code}" for code, count in sorted(totals.failed.items()))
    print(f"{name}: {totals.painted} painted, {totals.failed.total()} failed{f' ({codes})' if codes else ''}")
    return 0
