"""Millions of pictures on Ray Data, or a share of them in this process: where they are, and what became of them."""
