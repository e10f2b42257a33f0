from helpers.stores import memory

__all__ = ["memory"]
