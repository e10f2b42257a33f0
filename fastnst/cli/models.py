"""Commands about files of networks: export, import, info."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fastnst.cli.app import JsonVerbosity, Verbosity, app
from fastnst.cli.tables import in_line
from fastnst.config import ExportOptions, ImportOptions
from fastnst.files import printable


@app.command
def export(
    checkpoint: Annotated[str, Parameter(name="STYLE")],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    options: ExportOptions = ExportOptions(),
    verbosity: Verbosity = Verbosity(),
) -> int:
    """Write a checkpoint as one ONNX file, checked against torch before it appears.

    Parameters
    ----------
    checkpoint:
        name of a bundled style, or a trained .safetensors file
    output:
        the .onnx file
    """
    verbosity.start()
    from fastnst.export import export as run_export

    report = run_export(checkpoint, output, options)
    gray = report.largest_difference * 255
    rounding = ", rounding to 8 bits included" if report.uint8 else ""
    print(
        f"{printable(report.path)}: {report.size / 1e6:.2f} MB, largest difference to torch {gray:.4f} "
        "of 255 gray levels"
        f"{rounding}"
    )
    return 0


@app.command(name="import")
def import_model(
    source: Annotated[Path, Parameter(name="FOREIGN")],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    options: ImportOptions = ImportOptions(),
    verbosity: Verbosity = Verbosity(),
) -> int:
    """Turn weights that another project trained into a checkpoint, without running its code.

    Reads those of pytorch/examples, rrmina, gordicaleksa, igreat, eriklindernoren, yakhyo and abhiskk (.pth, .model),
    and of lengstrom (a deeplearn.js folder, or .npz).

    Parameters
    ----------
    source:
        the file or folder of weights
    output:
        the .safetensors file
    """
    verbosity.start()
    from fastnst.foreign.convert import import_model as run_import

    imported = run_import(source, output, options)
    widths = ", ".join(map(str, imported.net.channels))
    print(
        f"{printable(imported.path)}: a network of {imported.project}, {widths} channels, "
        f"{imported.net.blocks} blocks, {imported.parameters / 1e6:.2f} M parameters"
    )
    return 0


@app.command
def info(
    file: Annotated[str, Parameter(name="STYLE")],
    /,
    *,
    verbosity: JsonVerbosity = JsonVerbosity(),
) -> int:
    """Say what a style, a checkpoint or an ONNX file, holds.

    Parameters
    ----------
    file:
        name of a bundled style, or a .safetensors or .onnx file
    """
    verbosity.start()
    from fastnst.info import describe

    description = describe(file)
    if verbosity.as_json:
        print(json.dumps(description))
        return 0
    for name, value in description.items():
        print(f"{name}: {in_line(value)}")
    return 0
