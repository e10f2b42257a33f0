"""What earlier runs did, in about 33 bytes a row: digests of inputs and outputs in sorted arrays."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastnst.batch.rows import Row, digest

_PAINTED, _SETTLED = 2, 1  # bits


class Settled:
    """Which inputs need not be painted any more, and which input each output file was painted from."""

    def __init__(self, rows: Iterable[Row] = (), *, retry_failed: bool = False) -> None:
        """Rows in the order of manifests and journals, several of one input included."""
        inputs, states, outputs = bytearray(), bytearray(), bytearray()
        for row in rows:
            name = digest(row.input)
            inputs += name
            states.append(_PAINTED * row.painted + _SETTLED * row.is_settled(retry_failed=retry_failed))
            if row.output is not None and row.same_as is None and "::" not in row.output:
                outputs += digest(row.output)[:8] + name[:8]
        self._inputs, self._painted = _settled_inputs(inputs, states)  # sorted digests, and whether there is a painting
        pairs = np.frombuffer(outputs, np.uint64).reshape(-1, 2)
        order = np.argsort(pairs[:, 0], kind="stable")
        self._outputs, self._owners = pairs[order, 0], pairs[order, 1]

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def nbytes(self) -> int:
        return int(self._inputs.nbytes + self._painted.nbytes + self._outputs.nbytes + self._owners.nbytes)

    def among(self, keys: Sequence[str]) -> Iterator[tuple[bool, bool]]:
        """For each key whether it is settled, and whether that is because it was painted."""
        if not len(self._inputs):
            return iter([(False, False)] * len(keys))
        wanted = np.frombuffer(b"".join(map(digest, keys)), "S16")
        at = np.searchsorted(self._inputs, wanted).clip(max=len(self._inputs) - 1)
        settled = self._inputs[at] == wanted
        return zip(settled.tolist(), (settled & self._painted[at]).tolist(), strict=True)

    def is_taken(self, key: str, output: str) -> bool:
        """Whether an output was painted from another input, but for about one chance in 10^19 for each row there is."""
        name = np.frombuffer(digest(output)[:8], np.uint64)[0]
        first, last = np.searchsorted(self._outputs, name), np.searchsorted(self._outputs, name, side="right")
        owner = np.frombuffer(digest(key)[:8], np.uint64)[0]
        return bool(last > first) and owner not in self._owners[first:last]


def _settled_inputs(inputs: bytearray, states: bytearray) -> "tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bool_]]":
    """The sorted digests of those whose last row, painted ones first of all, is settled, and which are painted."""
    names, state = np.frombuffer(inputs, "S16"), np.frombuffer(states, np.uint8)
    if not len(names):
        return names, np.zeros(0, bool)
    order = np.argsort(names, kind="stable")
    names, state = names[order], state[order]
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    ends = np.append(starts[1:], len(names))
    painted = np.maximum.reduceat(state & _PAINTED, starts) > 0
    settled = painted | ((state[ends - 1] & _SETTLED) > 0)
    return names[starts][settled], painted[settled]
