"""Networks that other projects trained: their weights turned into checkpoints, their ONNX files run as they are."""
