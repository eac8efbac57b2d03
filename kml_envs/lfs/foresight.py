"""What the two oracles do with what they know: which log a block goes to, and which section to clean.

The clairvoyant oracle knows which user write will overwrite each block; the informed one knows only how likely each
block is to be written next. Both put blocks of similar prospects together, as the future-knowledge scheme of
Wang et al. (FAST'22) does with remaining lives, and both take the section with the lowest

    index = rate * u / ((1 - u) + u * ln(u)),    u = valid share, rate = mean over the valid blocks of 1 / lifetime.

Where that comes from: let a section start full of live blocks, each overwritten at the same rate, and let every slot
that holds no live block cost p per user write. Held until its valid share is u, so for a time -ln(u) / rate, the
section costs u moves and p * (-ln(u) - (1 - u)) / rate per slot and serves 1 - u user writes. The cost per user write
is least where p = rate * u / ((1 - u) + u * ln(u)). As all sections compete for the same space at one price, the next
to be cleaned is the one with the lowest such price. For homogeneous sections that is exactly the condition of the
optimal separation of hot and cold blocks, equal derivatives of the write amplification of all pools by their space
(Desnoyers 2014); for one rate it is greedy.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.volume import blocks, deaths, owners, rates, section_valid

NEVER = 1e18  # user writes


@compiled
def class_by_remaining_life(volume: Record, block: int) -> int:
    """The clairvoyant oracle's log for a block: how many thresholds its remaining life, in user writes, reaches."""
    return _thresholds_reached(volume, float(deaths(volume)[block] - volume.user_writes))


@compiled
def class_by_rate(volume: Record, block: int) -> int:
    """The informed oracle's log for a block: how many thresholds its expected lifetime reaches."""
    return _thresholds_reached(volume, 1.0 / max(rates(volume)[block], 1.0 / NEVER))


@compiled
def clairvoyant_cost(volume: Record, section: int) -> float:
    """The index of a dirty section, with the remaining lives of its valid blocks; the lowest is cleaned."""
    return _index(volume, section, True)


@compiled
def informed_cost(volume: Record, section: int) -> float:
    """The index of a dirty section, with the write probabilities of its valid blocks; the lowest is cleaned."""
    return _index(volume, section, False)


@compiled
def _index(volume: Record, section: int, by_death: bool) -> float:
    slots = volume.slots_per_section
    total_rate = 0.0
    for slot in range(section * slots, (section + 1) * slots):
        block = owners(volume)[slot]
        if block >= 0 and blocks(volume)[block].location == slot:
            if by_death:
                total_rate += 1.0 / max(float(deaths(volume)[block] - volume.user_writes), 1.0)
            else:
                total_rate += rates(volume)[block]
    share = section_valid(volume)[section] / slots
    # Rate times valid share is the sum of the rates over all slots.
    index: float = total_rate / slots / (1.0 - share + share * np.log(share))
    return index


@compiled
def _thresholds_reached(volume: Record, life: float) -> int:
    settings = volume.settings
    log = 0
    while log < settings.logs - 1 and life >= settings.age_threshold[log]:
        log += 1
    return log
