"""Options of making one manifest of several."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fastnst.config.shared import OverwriteOption


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MergeOptions(OverwriteOption):
    """Where the manifest goes that others are made into."""

    output: Annotated[str, Parameter(alias="-o")]
    """the manifest, .jsonl or .parquet, local or remote"""
