"""The formulas by which cleaning policies judge a section: one function each; the lowest cost is cleaned.

They are functions of numbers, so that each can be read beside its source. `policies.py` says which policy asks which,
and which sections it looks at.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import compiled

UINT_MAX = 2**32 - 1
ATGC_AGE_WEIGHT = 60  # percent
ATGC_ACCURACY = 10_000


@compiled
def greedy_cost(valid: int) -> float:
    """Valid blocks of the section (Rosenblum and Ousterhout, SOSP 1991, section 3.5; fs/f2fs/gc.c, get_gc_cost)."""
    return float(valid)


@compiled
def cost_benefit_cost(utilisation: float, age: float) -> float:
    """Minus benefit over cost: (1 − u) age / (1 + u), as reading a section costs 1 and writing it back u.

    Rosenblum and Ousterhout, "The Design and Implementation of a Log-Structured File System", SOSP 1991, section 3.6.

    Args:
        utilisation: u, valid share of the section, 0..1.
        age: Time since its mtime, in units of the age clock.
    """
    return -(1.0 - utilisation) * age / (1.0 + utilisation)


@compiled
def cost_benefit_envy_cost(utilisation: float, age: float) -> float:
    """Minus (1 − u) age / (2 u), where reading and writing cost what is valid only.

    Wu and Zwaenepoel, "eNVy: A Non-Volatile, Main Memory Storage System", ASPLOS 1994; in this form Kawaguchi, Nishioka
    and Motoda, "A Flash-Memory Based File System", USENIX 1995.

    Args:
        utilisation: u, valid share of the section, 0..1.
        age: Time since its mtime, in units of the age clock.
    """
    return -(1.0 - utilisation) * age / (2.0 * utilisation)


@compiled
def cost_benefit_sqrt_cost(utilisation: float, age: float) -> float:
    """Minus (1 − u) / u · √age: the cost-benefit of the simulator published with SepBIT (Wang et al., FAST'22).

    Args:
        utilisation: u, valid share of the section, 0..1.
        age: Time since its mtime, in units of the age clock.
    """
    return -(1.0 - utilisation) / utilisation * np.sqrt(age)


@compiled
def cost_age_times_cost(utilisation: float, age: float, erases: int) -> float:
    """CAT: u (1 + erases) / ((1 − u) age), which spares sections that were erased often.

    Chiang and Chang, "Cleaning policies in mobile computers using flash memory", Journal of Systems and Software 48,
    1999.

    Args:
        utilisation: u, valid share of the section, 0..1.
        age: Time since its mtime, in units of the age clock; at least one counts.
        erases: How often the section has been cleaned or emptied.
    """
    return utilisation * (1.0 + erases) / ((1.0 - utilisation) * max(age, 1.0))


@compiled
def fifo_cost(sealed: int, now: int, protection: int) -> float:
    """When the section was sealed; infinite within the protection period.

    nilfs-utils, sbin/cleanerd/cleanerd.c, nilfs_cleanerd_select_segments with the timestamp policy.

    Args:
        sealed: When the section was sealed, in units of the age clock.
        now: The clock.
        protection: Length of the protection period, in the same units.
    """
    if sealed > now - protection:
        return np.inf
    return float(sealed)


@compiled
def cost_benefit_f2fs(valid: int, mtime: int, oldest: int, newest: int, block_shift: int) -> int:
    """F2FS's integer cost-benefit (fs/f2fs/gc.c, get_cb_cost).

    Args:
        valid: Mean valid blocks of the section's segments.
        mtime: Mean mtime of the section's segments.
        oldest: Smallest mtime of all segments, free and never written ones too.
        newest: Running maximum of all mtimes.
        block_shift: log2 of blocks per segment.

    Returns:
        The cost as the kernel's tracepoint shows it.
    """
    percent = 100 * valid >> block_shift
    age = np.int64(0)
    if newest != oldest:
        age = 100 - 100 * (mtime - oldest) // (newest - oldest)
    return UINT_MAX - 100 * (100 - percent) * age // (100 + percent)


@compiled
def age_threshold_cost(mtime: int, invalid: int, slots: int, oldest: int, newest: int) -> int:
    """ATGC's cost of a candidate (fs/f2fs/gc.c, atgc_lookup_victim); each floor comes before its weight.

    Args:
        mtime: Mtime of the candidate.
        invalid: Invalid blocks of the section.
        slots: Blocks of a section.
        oldest: Smallest mtime of the dirty sections.
        newest: Largest mtime of the dirty sections.

    Returns:
        The cost as the kernel's tracepoint shows it.
    """
    span = newest + 1 - oldest
    accuracy = min(ATGC_ACCURACY, np.int64(np.uint64(2**64 - 1) // np.uint64(span) // np.uint64(100)))
    age = accuracy * (newest + 1 - mtime) // span * ATGC_AGE_WEIGHT
    return UINT_MAX - (age + accuracy * invalid // slots * (100 - ATGC_AGE_WEIGHT))
