"""A process's memory over time, and whether it grows: the slope of its resident size with an interval."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

BLOCKS = 10
STUDENT_T = 2.306
"""97.5 % quantile with BLOCKS - 2 degrees of freedom."""


def resident_mib(pid: int) -> float:
    """The resident memory of a process. Linux alone. Raises OSError when it is gone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_s(pid: int) -> float:
    """Seconds that a process computed so far, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Slope:
    """MiB an hour, with a 95 % interval."""

    mib_an_hour: float
    low: float
    high: float


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """The slope of (second, MiB) samples by least squares over the means of ten blocks of time.

    Samples a second apart depend on each other, and an interval from all of them would be far too narrow; means of
    tenths of the run hardly do. Raises ValueError where a tenth has no sample.
    """
    first, last = samples[0][0], samples[-1][0]
    blocks: list[list[tuple[float, float]]] = [[] for _ in range(BLOCKS)]
    for at, mib in samples:
        blocks[min(BLOCKS - 1, int(BLOCKS * (at - first) / max(1e-9, last - first)))].append((at, mib))
    if not all(blocks):
        raise ValueError(f"{len(samples)} samples of memory, wanted some in each tenth of the run: run it for longer")
    means = [(fmean(at for at, _ in block), fmean(mib for _, mib in block)) for block in blocks]
    middle, level = fmean(at for at, _ in means), fmean(mib for _, mib in means)
    spread = sum((at - middle) ** 2 for at, _ in means)
    found = sum((at - middle) * (mib - level) for at, mib in means) / spread
    left = sum((mib - level - found * (at - middle)) ** 2 for at, mib in means)
    error = (left / (BLOCKS - 2) / spread) ** 0.5
    return Slope(3600 * found, 3600 * (found - STUDENT_T * error), 3600 * (found + STUDENT_T * error))
