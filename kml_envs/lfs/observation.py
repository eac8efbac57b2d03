"""What the agent sees of a volume: plain numbers scaled to about 0..1, feature by feature.

Context features describe the volume, candidate features one section each. "Recent" is the last quarter volume of
user writes before the mark that `mark_recent` sets; older overwrites count half with every mark.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, bits_of_float, compiled, highest_bit
from kml_envs.lfs.score import log2, section_mtime
from kml_envs.lfs.section_index import fewest_valid, first_section
from kml_envs.lfs.volume import (
    AGE_BUCKETS,
    HISTORY,
    SegmentState,
    dirty_row,
    history,
    overwrite_ages,
    overwrite_intervals,
    population,
    sealed_at,
    section_states,
    section_valid,
    sections,
    slots_per_section,
)

UTILISATION_BINS = 10
CONTEXT_FEATURES = (
    "free_margin",
    "recent_write_amplification",
    "recent_victim_valid_share",
    *(f"overwrite_age_{bucket}" for bucket in range(AGE_BUCKETS)),
    *(f"segments_valid_{10 * step}_percent" for step in range(UTILISATION_BINS)),
)
INTERVAL_FEATURES = (*(f"update_interval_{bucket}" for bucket in range(AGE_BUCKETS)), "predictability")
CANDIDATE_FEATURES = (
    "present",
    "valid_share",
    "age",
    "quiet",
    "open_age",
    "relocated",
    "benefit",
    "invalidation_rate",
)
LOGARITHMS = 5  # of a candidate's features

FEWEST_VALID = 12
BEST_BENEFIT = 12
OLDEST = 8
NEVER = 2**63 - 1  # above the key of every section
GROUP = 16  # neighbouring sections of which the lowest key is remembered
CANDIDATES = FEWEST_VALID + BEST_BENEFIT + OLDEST


def key_count(sections: int) -> int:
    """Room that `choose_candidates` needs in each of its two rows of keys, with the lowest of each group behind."""
    groups = -(-sections // GROUP)
    return GROUP * groups + groups


@compiled
def observe_context(volume: Record, out: Record) -> None:
    """Write the context features of a volume.

    Args:
        volume: The VOLUME record.
        out: (29,) float32, in the order of CONTEXT_FEATURES. free_margin: free sections above the reserve, as a
            share of the distance from the reserve to twice the cleaning trigger; recent_write_amplification:
            log2(WA) / 4; overwrite_age_k: share of the recently overwritten blocks whose age in user writes was
            within a factor of two, bucket 12 about one volume; segments_valid_k_percent: share of the sealed
            sections with k to k + 10 % valid blocks.
    """
    settings = volume.settings
    span = 2 * settings.trigger_sections - settings.reserve_sections
    out[0] = min(max((volume.free_sections - settings.reserve_sections) / span, 0.0), 1.0)
    out[1] = min(log2(1.0 + volume.recent_moved) / 4.0, 1.0)
    out[2] = volume.recent_victim
    ages = overwrite_ages(volume)
    total = np.int64(0)
    for bucket in range(AGE_BUCKETS):
        total += ages[bucket]
    total = max(total, 1)
    for bucket in range(AGE_BUCKETS):
        out[3 + bucket] = ages[bucket] / total
    _observe_utilisation(volume, out[3 + AGE_BUCKETS :])


@compiled
def observe_intervals(volume: Record, out: Record) -> None:
    """Write the features of update intervals, of a volume that keeps them.

    Args:
        volume: The VOLUME record.
        out: (17,) float32, in the order of INTERVAL_FEATURES. update_interval_k: share of the recently overwritten
            blocks of which an interval within a factor of two was expected, buckets as of overwrite_age_k;
            predictability: correlation of the logarithms of interval and age over these blocks, 0 where negative.
    """
    ages, expected = overwrite_ages(volume), overwrite_intervals(volume)
    count, age, interval, squared_age, squared_interval = 0.0, 0.0, 0.0, 0.0, 0.0
    for bucket in range(AGE_BUCKETS):
        count += expected[bucket]
        age += ages[bucket] * bucket
        interval += expected[bucket] * bucket
        squared_age += ages[bucket] * bucket**2
        squared_interval += expected[bucket] * bucket**2
    for bucket in range(AGE_BUCKETS):
        out[bucket] = expected[bucket] / max(count, 1.0)
    spread = (count * squared_age - age**2) * (count * squared_interval - interval**2)
    together = count * volume.age_products - age * interval
    out[AGE_BUCKETS] = min(max(together, 0.0) / np.sqrt(spread), 1.0) if spread > 0.0 else 0.0


@compiled
def mark_recent(volume: Record) -> None:
    """Remember what happened since the last mark, and let older overwrite ages fade."""
    writes = volume.user_writes - volume.mark_writes
    cleanings = volume.cleanings - volume.mark_cleanings
    moved = volume.moved - volume.mark_moved
    volume.recent_moved = moved / max(writes, 1)
    # Of victims that are cleaned in parts blocks are moved before they count.
    volume.recent_victim = min(moved / max(cleanings * volume.slots_per_section, 1), 1.0)
    history(volume)[volume.marks % HISTORY] = volume.recent_moved
    volume.marks += 1
    volume.mark_writes = volume.user_writes
    volume.mark_moved = volume.moved
    volume.mark_cleanings = volume.cleanings
    ages = overwrite_ages(volume)
    expected = overwrite_intervals(volume)
    for bucket in range(AGE_BUCKETS):
        ages[bucket] >>= 1
        expected[bucket] >>= 1
    volume.age_products >>= 1


@compiled
def choose_candidates(volume: Record, candidates: Record, keys: Record) -> None:
    """Pre-select the sections that the agent may choose from.

    The built-in algorithm's own choice comes first, then the sections with the fewest valid blocks, the best by
    cost-benefit and the oldest, without repeats.

    Args:
        volume: The VOLUME record, with a decision pending.
        candidates: (CANDIDATES,) int32, filled with section numbers; -1 in empty slots.
        keys: (2, `key_count(sections)`) int64, scratch; NEVER at first.
    """
    candidates[:] = -1
    _fewest_valid_sections(volume, candidates[:FEWEST_VALID])
    _rank_sections(volume, keys)
    _take_lowest(keys[0], volume.section_count, candidates[FEWEST_VALID:-OLDEST])
    _take_lowest(keys[1], volume.section_count, candidates[-OLDEST:])
    _drop_repeats(candidates)
    _put_first(candidates, volume.suggestion)


@compiled
def observe_candidates(volume: Record, candidates: Record, out: Record, logarithms: Record) -> None:
    """Write the features of candidates, each in its place; those of empty slots are left alone.

    Args:
        volume: The VOLUME record.
        candidates: (K,) int32, sealed sections; negative: an empty slot.
        out: (8 K,) float32, CANDIDATE_FEATURES of each. age, open_age: log2(1 + 16 t / P) / 8 of the time since
            mtime and since the section was opened; quiet: log2(1 + t / B) / 8 of the time since the last
            invalidation; benefit: the same scale as age for the cost-benefit (1 - u) age / (1 + u);
            invalidation_rate: log2(1 + r) / 6, r = invalid share per volume of user writes since it was opened.
        logarithms: (LOGARITHMS K,) float64, scratch; at least 1 at first.
    """
    of_section, of_volume, now = 1.0 / volume.slots_per_section, 16.0 / volume.block_count, volume.user_writes
    for k in range(candidates.size):
        if candidates[k] < 0:
            continue
        record = sections(volume)[candidates[k]]
        share = section_valid(volume)[candidates[k]] * of_section
        age = of_volume * (volume.clock - section_mtime(volume, candidates[k]))
        open_age = now - record.opened_at
        out[8 * k] = 1.0
        out[8 * k + 1] = share
        out[8 * k + 5] = record.relocated
        logarithms[5 * k] = 1.0 + age
        logarithms[5 * k + 1] = 1.0 + (now - record.last_invalidation) * of_section
        logarithms[5 * k + 2] = 1.0 + of_volume * open_age
        logarithms[5 * k + 3] = 1.0 + age * (1.0 - share) / (1.0 + share)
        logarithms[5 * k + 4] = 1.0 + (1.0 - share) * volume.block_count / max(open_age, 1)
    for position in range(logarithms.size):  # a loop of its own, which becomes vector instructions
        logarithms[position] = log2(logarithms[position])
    for k in range(candidates.size):
        if candidates[k] >= 0:
            for column in range(3):
                out[8 * k + 2 + column] = min(logarithms[5 * k + column] / 8.0, 1.0)
            out[8 * k + 6] = min(logarithms[5 * k + 3] / 8.0, 1.0)
            out[8 * k + 7] = min(logarithms[5 * k + 4] / 6.0, 1.0)


@compiled
def _observe_utilisation(volume: Record, out: Record) -> None:
    out[:] = 0.0
    slots = volume.slots_per_section
    counts = population(volume)
    dirty = counts[dirty_row(volume)]
    for valid in range(slots):
        if counts[valid]:
            share = valid * UTILISATION_BINS // slots
            out[share] = min(out[share] + counts[valid] / max(dirty, 1), 1.0)  # sums of float32 round up, too


@compiled
def _fewest_valid_sections(volume: Record, kept: Record) -> None:
    found = 0
    row = max(fewest_valid(volume), 0)
    while found < kept.size and row < slots_per_section(volume):
        section = np.int64(-1)
        if population(volume)[row] > 0:
            section = first_section(volume, row, 0)
        while section >= 0 and found < kept.size:
            kept[found] = section
            found += 1
            section = first_section(volume, row, section + 1)
        row += 1


@compiled
def _rank_sections(volume: Record, keys: Record) -> None:
    # Keys of all sections by cost-benefit and by age, lowest first; the section's number stands in their last bits.
    bits = highest_bit(np.uint64(volume.section_count)) + 1
    numbers = (np.int64(1) << bits) - 1
    slots, clock, count = slots_per_section(volume), volume.clock, volume.section_count
    for section in range(count):
        keys[1, section] = section_mtime(volume, section)
    for section in range(count):  # simple loops become vector instructions
        valid = section_valid(volume)[section]
        age = max(clock - keys[1, section], np.int64(0))
        benefit = (slots - valid) * age / float(slots + valid)
        dirty = section_states(volume)[section] == SegmentState.DIRTY
        keys[0, section] = ((NEVER - np.int64(bits_of_float(benefit))) & ~numbers) | section if dirty else NEVER
    for section in range(count):
        dirty = section_states(volume)[section] == SegmentState.DIRTY
        keys[1, section] = (sealed_at(volume)[section] << bits) | section if dirty else NEVER


@compiled
def _take_lowest(keys: Record, sections: int, taken: Record) -> None:
    # The sections with the lowest keys. Only the group that lost its lowest key is looked through again.
    numbers = (np.int64(1) << (highest_bit(np.uint64(sections)) + 1)) - 1
    groups = keys.size // (GROUP + 1)
    minima = keys[GROUP * groups :]
    for group in range(groups):
        minima[group] = _lowest_of_group(keys, group)
    for position in range(taken.size):
        lowest = np.int64(NEVER)
        for minimum in minima:
            lowest = min(lowest, minimum)
        if lowest == NEVER:
            return
        section = lowest & numbers
        taken[position] = section
        keys[section] = NEVER
        minima[section // GROUP] = _lowest_of_group(keys, section // GROUP)


@compiled
def _lowest_of_group(keys: Record, group: int) -> int:
    lowest = np.int64(NEVER)
    for place in range(GROUP * group, GROUP * (group + 1)):
        lowest = min(lowest, keys[place])
    return lowest


@compiled
def _put_first(candidates: Record, section: int) -> None:
    # The suggestion moves to slot 0; what stood there takes its old place, or an empty slot, or that of the last one.
    place = candidates.size - 1
    for position in range(candidates.size - 1, -1, -1):
        if candidates[position] < 0:
            place = position
    for position in range(candidates.size):
        if candidates[position] == section:
            place = position
            break
    candidates[place] = candidates[0]
    candidates[0] = section


@compiled
def _drop_repeats(candidates: Record) -> None:
    for position in range(candidates.size - 1, 0, -1):
        repeated = False
        for before in range(position):
            repeated |= candidates[position] == candidates[before]
        if repeated:
            candidates[position] = -1
