"""Transformer networks: one description (spec), and what computes it: torch, an ONNX graph, bands of a huge picture."""
