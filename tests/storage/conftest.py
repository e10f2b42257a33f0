from helpers.stores import bucket, memory, s3

__all__ = ["bucket", "memory", "s3"]
