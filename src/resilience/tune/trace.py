"""Recorded samples in order of time, however many there are.

Knows points in time and durations as integers. Samples are collected in chunks; each full one is put in order and
written to a temporary file, and reading merges them. So a record of any size takes some 30 MB of memory, and 16 bytes
of temporary disk space a sample once it has more than a chunk. Refuses to know where samples come from.
"""

from __future__ import annotations

import tempfile
from array import array
from heapq import merge
from itertools import chain, pairwise
from operator import itemgetter
from typing import IO, TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK", "LOST", "Trace"]

CHUNK = 1 << 18
"""Samples that are held in memory while a record is read."""

_MERGED = 1 << 19
"""Samples that are held in memory, all chunks together, while they are merged."""

LOST = -(1 << 62)
"""The sample of a call of which nothing is known but that no answer came."""


class _Chunk(NamedTuple):
    offset: int
    size: int
    first: int
    last: int


class Trace:
    """What was recorded: a point in time (ns) and a sample (ns, or negative: no answer within that time).

    Iterate over it as often as you like: pairs in order of time, those of one time in the order they were added. Close
    it when done; it is a context manager. Not thread-safe.

    Args:
        chunk: how many samples are held in memory, at least 1.

    Attributes:
        count: how many samples there are.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self._chunk = chunk
        self._times = array("q")
        self._samples = array("q")
        self._file: IO[bytes] | None = None
        self._chunks: list[_Chunk] = []
        self.count = 0

    def add(self, at: int, sample: int) -> None:
        """Add one sample."""
        self._times.append(at)
        self._samples.append(sample)
        self.count += 1
        if len(self._times) >= self._chunk:
            self._spill()

    def _sort(self) -> None:
        times = self._times
        if any(later < earlier for earlier, later in pairwise(times)):
            order = sorted(range(len(times)), key=times.__getitem__)
            self._times = array("q", map(times.__getitem__, order))
            self._samples = array("q", map(self._samples.__getitem__, order))

    def _spill(self) -> None:
        self._sort()
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="resilience-tune-")  # noqa: SIM115 - closed by close()
        offset = self._file.seek(0, 2)
        times = self._times
        self._file.write(times.tobytes())
        self._file.write(self._samples.tobytes())
        self._chunks.append(_Chunk(offset, len(times), times[0], times[-1]))
        self._times, self._samples = array("q"), array("q")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self._sort()
        rest = zip(self._times, self._samples, strict=True)
        if not self._chunks:
            return iter(rest)
        starts = [*(chunk.first for chunk in self._chunks[1:]), *self._times[:1]]
        ordered = all(chunk.last <= start for chunk, start in zip(self._chunks, starts, strict=False))
        block = self._chunk if ordered else max(64, _MERGED // len(self._chunks))
        parts = [*(self._read(chunk, block) for chunk in self._chunks), rest]
        return chain.from_iterable(parts) if ordered else merge(*parts, key=itemgetter(0))

    def _read(self, chunk: _Chunk, block: int) -> Iterator[tuple[int, int]]:
        for begin in range(0, chunk.size, block):
            size = min(block, chunk.size - begin)
            yield from zip(
                self._array(chunk.offset + 8 * begin, size),
                self._array(chunk.offset + 8 * (chunk.size + begin), size),
                strict=True,
            )

    def _array(self, offset: int, size: int) -> array[int]:
        assert self._file is not None
        self._file.seek(offset)
        found = array("q")
        found.frombytes(self._file.read(8 * size))
        return found

    @property
    def first(self) -> int:
        """The first point in time; there must be a sample."""
        self._sort()
        return min([*(chunk.first for chunk in self._chunks), *self._times[:1]])

    @property
    def last(self) -> int:
        """The last point in time; there must be a sample."""
        self._sort()
        return max([*(chunk.last for chunk in self._chunks), *self._times[-1:]])

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
