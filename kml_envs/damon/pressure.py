"""Memory pressure as the kernel counts it (PSI "some") and the time that a thread loses by it: there and back."""

from __future__ import annotations

from kml_envs.compiling import compiled

_MOST_PRESSURE = 0.99  # of which a time lost is still told


@compiled
def some_pressure(waiting: float, threads: float) -> float:
    """Share of time in which at least one of some threads waits, if they wait independently.

    Args:
        waiting: Share of its time that a thread waits.
        threads: Threads.
    """
    return float(1.0 - (1.0 - waiting) ** threads)


@compiled
def lost_share(pressure: float, threads: float) -> float:
    """Time that a thread waits, in the time that it works: what `some_pressure` was made of.

    Args:
        pressure: Share of time in which at least one thread waits.
        threads: Threads.
    """
    some = min(_MOST_PRESSURE, max(0.0, pressure))
    return float((1.0 - some) ** (-1.0 / threads) - 1.0)
