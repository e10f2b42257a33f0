"""What a checkpoint or an ONNX file holds, as plain values."""

import json
from pathlib import Path
from typing import Any

from fastnst.errors import ModelError
from fastnst.files import printable
from fastnst.styles import style_file


def describe(style: Path | str) -> dict[str, Any]:
    """Everything a checkpoint, a fine-tuned loss network or an .onnx file says about itself; of a bundled style, by its
    name, the .onnx file.

    Raises ModelError, or UnsafeModelError for a pickle, if it is neither or damaged, UsageError for a name that no
    bundled style has.
    """
    path = style_file(style, "onnx")
    if path.suffix == ".onnx":
        return _describe_onnx(path)
    from dataclasses import asdict

    from fastnst.checkpoint import load_checkpoint
    from fastnst.finetune.classifier import read_meta

    if (classifier := read_meta(path)) is not None:
        return {"file": printable(path), "kind": "loss network", "bytes": path.stat().st_size, **asdict(classifier)}
    net, meta = load_checkpoint(path)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {
        "file": printable(path),
        "kind": "checkpoint",
        "bytes": path.stat().st_size,
        "parameters": parameters,
        **asdict(meta),
    }


def _describe_onnx(path: Path) -> dict[str, Any]:
    from fastnst.nets.onnx_proto import read_onnx, read_signature

    data, file = read_onnx(path)
    inputs, outputs = read_signature(data)
    try:
        meta = json.loads(file.metadata.get("fastnst", "{}"))
        if not isinstance(meta, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{printable(path)} has an unreadable fastnst header ({error}); export it again") from error
    return {
        "file": printable(path),
        "kind": "onnx",
        "bytes": file.size,
        "opset": file.opsets.get("", 0),
        "nodes": file.nodes,
        "input": inputs,
        "output": outputs,
        **({"precision": file.metadata["precision"]} if "precision" in file.metadata else {}),
        **meta,
    }
