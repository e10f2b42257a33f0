"""Damage to files."""

import random


def mutate(data: bytes, chance: random.Random, reach: int) -> bytes:
    """Flip bits, cut off, cut out or splice, within the first `reach` bytes."""
    changed = bytearray(data)
    kind, at = chance.choice(["flip", "flip", "cut", "remove", "splice"]), chance.randrange(reach)
    other, length = chance.randrange(reach), chance.randrange(1, 40)
    if kind == "flip":
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del changed[at:]
    elif kind == "remove":
        del changed[at : at + length]
    else:
        changed[at : at + length] = data[other : other + length]
    return bytes(changed)
