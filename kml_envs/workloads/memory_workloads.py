"""Memory workloads: named scenarios, and mixtures drawn from a seed.

Each scenario is the smallest pattern that shows one difficulty which users of DAMON report. Sizes are in bytes, rates
in touches per page and second; a page with 200 of them is found accessed in 63 of 100 sampling intervals of 5 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import UserError, unknown_name
from kml_envs.workloads.access import PAGE_BYTES, AccessTable, build_table
from kml_envs.workloads.masim import masim_table, shipped_masim

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
HUGE_PAGE_BYTES = 2 * MIB
SECOND_US = 1_000_000

Range = tuple[int, int, float, float]
Phases = list[tuple[int, list[Range]]]

HOT_RATE = 200.0
MOST_GIB = 4096
_EXTENTS = 192  # of a drawn mixture
_SLOT_S = 2  # length of the phases of a pattern of bursts


@dataclass(frozen=True)
class MemoryWorkload:
    """A named access pattern with what belongs to it.

    Attributes:
        name: How suites, tables and TensorBoard call it.
        table: The access pattern.
        limit_bytes: Memory that the machine has for it; 0 leaves that to the environment.
        populated: Whether all memory is resident in the beginning; otherwise pages become so by their first touch.
    """

    name: str
    table: AccessTable
    limit_bytes: int = 0
    populated: bool = True


def needle() -> MemoryWorkload:
    """A hot set of 200 MiB in 160 GiB that are never touched: can the monitor find it, and at what cost?"""
    hot = 97 * GIB + 300 * MIB
    phases: Phases = [(60 * SECOND_US, [(hot, hot + 200 * MIB, HOT_RATE, 0.0)])]
    return _workload("needle", phases, 160 * GIB)


def stairs() -> MemoryWorkload:
    """The shape in masim's examples of a hot region that moves in steps."""
    return MemoryWorkload("stairs", masim_table(shipped_masim("stairs"), name="stairs"))


def zigzag() -> MemoryWorkload:
    """The shape in masim's examples of two regions that take turns."""
    return MemoryWorkload("zigzag", masim_table(shipped_masim("zigzag"), name="zigzag"))


def idle_server() -> MemoryWorkload:
    """A server of 8 GiB that idles for 100 s and serves for 20 s: what was cold for long is wanted all at once."""
    kernel: Range = (0, 64 * MIB, 5.0, 0.0)
    serving: list[Range] = [
        kernel,
        (GIB, GIB + 256 * MIB, HOT_RATE, 0.0),
        (2 * GIB, 4 * GIB, 2.0, 0.0),
        (4 * GIB, 6 * GIB, 0.02, 0.0),
    ]
    return _workload("idle-server", [(100 * SECOND_US, [kernel]), (20 * SECOND_US, serving)], 8 * GIB)


def pressure_spike() -> MemoryWorkload:
    """A working set of 2 GiB under a limit of 3 GiB; a burst of 1.5 GiB for 15 s every 2 minutes crosses watermarks."""
    steady: list[Range] = [(0, GIB, 50.0, 0.0), (GIB, 2 * GIB, 0.05, 0.0)]
    burst: list[Range] = [*steady, (2 * GIB, 3 * GIB + 512 * MIB, 1.0, 0.0)]
    phases: Phases = [(105 * SECOND_US, steady), (15 * SECOND_US, burst)]
    return _workload("pressure-spike", phases, 4 * GIB, limit_bytes=3 * GIB, populated=False)


def huge_page_bloat() -> MemoryWorkload:
    """1 GiB used densely, 3 GiB of which 128 KiB of every huge page are: huge pages help one and bloat the other."""
    dense: Range = (0, GIB, 20.0, 0.0)
    sparse: list[Range] = [(start, start + 128 * KIB, 20.0, 0.0) for start in range(GIB, 4 * GIB, HUGE_PAGE_BYTES)]
    return _workload("huge-page-bloat", [(60 * SECOND_US, [dense, *sparse])], 4 * GIB, populated=False)


def translation_fit() -> MemoryWorkload:
    """A hot set of 6 MiB that fits into the TLB: its accessed bits are seldom set again once a monitor cleared them."""
    hot: Range = (512 * MIB, 518 * MIB, 20_000.0, 0.0)
    return _workload("translation-fit", [(60 * SECOND_US, [hot, (0, 256 * MIB, 1.0, 0.0)])], GIB)


def mis_sized_quota() -> MemoryWorkload:
    """32 GiB of which 8 GiB fall cold every 60 s, and return: DAMON_RECLAIM's 128 MiB a second cannot keep up."""
    phases: Phases = []
    for turn in range(4):
        low = turn * 8 * GIB
        used: list[Range] = [(low, low + 8 * GIB, 3.0, 0.0)]
        # Of what was left behind, a part is still looked at now and then.
        before = (turn - 1) % 4 * 8 * GIB
        used.append((before, before + GIB, 0.05, 0.0))
        phases.append((60 * SECOND_US, used))
    return _workload("mis-sized-quota", phases, 32 * GIB)


def zipf_memory(theta: float, gib: int, seed: int) -> MemoryWorkload:
    """Parts of memory of drawn sizes in a drawn order, the k-th most popular visited in proportion to k**-theta.

    Args:
        theta: Exponent, 0 to 5.
        gib: Size in GiB.
        seed: Of the sizes and the order.
    """
    name = f"zipf-memory-{theta:.15g}-{gib}-{seed}"
    if not 0 <= theta <= 5:
        raise UserError(f"workload '{name}': an exponent of 0 to 5 is accepted")
    random = _generator(name, gib, seed, 1)
    cuts = _drawn_cuts(random, gib * GIB)
    rates = 400.0 * _zipf_weights(random, len(cuts) - 1, theta)
    return _workload(name, [(60 * SECOND_US, _ranges(cuts, rates))], gib * GIB)


def bursts(gib: int, seed: int) -> MemoryWorkload:
    """Parts of memory that are used for a while and rest for a while, over 10 minutes, each at its own pace.

    One part in eight is always in use, one in four never; the others have mean times of use and of rest drawn from
    2 s to 60 s and from 4 s to 300 s (log-uniform), and a rate of .2 to 200 (log-uniform).
    """
    name = f"bursts-{gib}-{seed}"
    random = _generator(name, gib, seed, 2)
    cuts = _drawn_cuts(random, gib * GIB)
    count, slots = len(cuts) - 1, 600 // _SLOT_S
    used = np.empty((count, slots), np.bool_)
    for part in range(count):
        used[part] = _use_and_rest(random, slots)
    kind = random.random(count)
    used[kind < 1 / 8] = True
    used[kind > 3 / 4] = False
    rates = _log_uniform(random, 0.2, 200.0, count)
    phases = [(_SLOT_S * SECOND_US, _ranges(cuts, rates * used[:, slot])) for slot in range(slots)]
    return _workload(name, phases, gib * GIB)


def mixture(gib: int, seed: int) -> MemoryWorkload:
    """Eight phases of 20 to 90 s drawn from a skewed set, a moving hot set, a sequential sweep and near idleness."""
    name = f"mixture-{gib}-{seed}"
    random = _generator(name, gib, seed, 3)
    size = gib * GIB
    cuts = _drawn_cuts(random, size)
    background = np.where(random.random(len(cuts) - 1) < 0.1, 5.0, 0.0)
    phases: Phases = []
    for _ in range(8):
        kind = random.integers(4)
        ranges = _ranges(cuts, background)
        if kind == 0:
            ranges = _ranges(cuts, 100.0 * _zipf_weights(random, len(cuts) - 1, 0.9))
        elif kind < 3:
            length = _pages(size * random.uniform(0.05, 0.3))
            start = _pages(random.uniform(0.0, size - length))
            own = (start, start + length, HOT_RATE / 4, 0.0 if kind == 1 else random.uniform(5.0, 30.0) * SECOND_US)
            ranges = _overlaid(ranges, own)
        phases.append((int(random.integers(20, 91)) * SECOND_US, ranges))
    return _workload(name, phases, size)


def turns(gib: int, seed: int) -> MemoryWorkload:
    """Parts of memory that take turns, over and over: what falls cold is wanted again, all of it, after a drawn time.

    Two to eight parts, each in use for 10 s to 180 s at a rate of .5 to 50 (both log-uniform). An eighth of the part
    before is still looked at now and then.
    """
    name = f"turns-{gib}-{seed}"
    random = _generator(name, gib, seed, 4)
    parts = int(random.integers(2, 9))
    seconds, rate = round(_log_uniform(random, 10.0, 180.0, 1)[0]), float(_log_uniform(random, 0.5, 50.0, 1)[0])
    edges = [_pages(gib * GIB * part / parts) for part in range(parts + 1)]
    phases: Phases = []
    for part in range(parts):
        low, high, before = edges[part], edges[part + 1], edges[(part - 1) % parts]
        looked_at: Range = (before, before + _pages((high - low) / 8), rate / 50.0, 0.0)
        phases.append((seconds * SECOND_US, [(low, high, rate, 0.0), looked_at]))
    return _workload(name, phases, gib * GIB)


SCENARIOS: dict[str, Callable[[], MemoryWorkload]] = {
    "needle": needle,
    "stairs": stairs,
    "zigzag": zigzag,
    "idle-server": idle_server,
    "pressure-spike": pressure_spike,
    "huge-page-bloat": huge_page_bloat,
    "translation-fit": translation_fit,
    "mis-sized-quota": mis_sized_quota,
}
"""The scenarios by name."""


def scenario(name: str) -> MemoryWorkload:
    """Make one of the `SCENARIOS`."""
    if name not in SCENARIOS:
        raise unknown_name("memory scenario", name, SCENARIOS)
    return SCENARIOS[name]()


def _workload(name: str, phases: Phases, size: int, *, limit_bytes: int = 0, populated: bool = True) -> MemoryWorkload:
    return MemoryWorkload(name, build_table(name, phases, size), limit_bytes, populated)


def _generator(name: str, gib: int, seed: int, stream: int) -> np.random.Generator:
    if not 1 <= gib <= MOST_GIB:
        raise UserError(f"workload '{name}': 1 to {MOST_GIB} GiB are accepted")
    return np.random.default_rng([stream, gib, seed])


def _drawn_cuts(random: np.random.Generator, size: int) -> list[int]:
    """Cut the memory into parts of log-normal sizes."""
    shares = np.cumsum(random.lognormal(0.0, 1.2, _EXTENTS))
    inner = {_pages(size * share) for share in shares[:-1] / shares[-1]}
    return sorted({0, *inner, size})


def _ranges(cuts: Sequence[int], rates: NDArray[np.float64]) -> list[Range]:
    return [
        (low, high, float(rate), 0.0) for low, high, rate in zip(cuts[:-1], cuts[1:], rates, strict=True) if rate > 0.0
    ]


def _zipf_weights(random: np.random.Generator, count: int, theta: float) -> NDArray[np.float64]:
    return np.asarray((1.0 + random.permutation(count)) ** -theta, np.float64)


def _overlaid(ranges: list[Range], own: Range) -> list[Range]:
    """Cut a range's place out of the others and put it there."""
    left = [(start, min(end, own[0]), rate, sweep) for start, end, rate, sweep in ranges if start < own[0]]
    right = [(max(start, own[1]), end, rate, sweep) for start, end, rate, sweep in ranges if end > own[1]]
    return [*left, own, *right]


def _use_and_rest(random: np.random.Generator, slots: int) -> NDArray[np.bool_]:
    """Alternate exponential times of use and of rest, from a place in the middle."""
    means = _log_uniform(random, 2.0, 60.0, 1)[0], _log_uniform(random, 4.0, 300.0, 1)[0]
    used = np.zeros(slots, np.bool_)
    slot, using = 0, bool(random.random() < means[0] / sum(means))
    while slot < slots:
        length = max(1, round(random.exponential(means[0] if using else means[1]) / _SLOT_S))
        used[slot : slot + length] = using
        slot, using = slot + length, not using
    return used


def _log_uniform(random: np.random.Generator, low: float, high: float, count: int) -> NDArray[np.float64]:
    return np.asarray(np.exp(random.uniform(np.log(low), np.log(high), count)))


def _pages(size: float) -> int:
    """Whole pages of so many bytes, in bytes."""
    return int(size) // PAGE_BYTES * PAGE_BYTES
