"""What the agent sees of a volume: plain numbers scaled to about 0..1, feature by feature.

Context features describe the volume, candidate features one section each. "Recent" is the last quarter volume of
user writes before the mark that `mark_recent` sets; older overwrites count half with every mark.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, lowest_bit
from kml_envs.lfs.score import dirty_word, log2, section_mtime
from kml_envs.lfs.section_index import fewest_valid, first_section
from kml_envs.lfs.state import (
    AGE_BUCKETS,
    HISTORY,
    dirty_row,
    history,
    overwrite_ages,
    overwrite_intervals,
    population,
    segments,
    segments_per_section,
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

FEWEST_VALID = 12
BEST_BENEFIT = 12
OLDEST = 8
CANDIDATES = FEWEST_VALID + BEST_BENEFIT + OLDEST


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
    volume.recent_victim = moved / max(cleanings * volume.slots_per_section, 1)
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
        keys: (CANDIDATES,) float64, scratch.
    """
    candidates[:] = -1
    keys[:] = np.inf
    _fewest_valid_sections(volume, candidates[:FEWEST_VALID])
    best_benefit, best_keys = candidates[FEWEST_VALID:-OLDEST], keys[FEWEST_VALID:-OLDEST]
    oldest, oldest_keys = candidates[-OLDEST:], keys[-OLDEST:]
    slots = slots_per_section(volume)
    for step in range(volume.word_count):
        first, bits = dirty_word(volume, step, 0)
        while bits != 0:
            section = first + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            head = segments(volume)[section * segments_per_section(volume)]
            age = volume.clock - section_mtime(volume, section)
            cost = (head.section_valid - slots) * age / (slots + head.section_valid)
            if cost < best_keys[-1]:
                _keep_lowest(best_benefit, best_keys, section, cost)
            if head.sealed_at < oldest_keys[-1]:
                _keep_lowest(oldest, oldest_keys, section, float(head.sealed_at))
    _put_first(candidates, volume.suggestion)
    _drop_repeats(candidates)


@compiled
def observe_candidate(volume: Record, section: int, out: Record) -> None:
    """Write the features of one candidate.

    Args:
        volume: The VOLUME record.
        section: A sealed section.
        out: (8,) float32, in the order of CANDIDATE_FEATURES. age, open_age: log2(1 + 16 t / P) / 8 of the time since
            mtime and since the section was opened; quiet: log2(1 + t / B) / 8 of the time since the last
            invalidation; benefit: the same scale as age for the cost-benefit (1 - u) age / (1 + u);
            invalidation_rate: log2(1 + r) / 6, r = invalid share per volume of user writes since it was opened.
    """
    head = segments(volume)[section * volume.segments_per_section]
    slots, count, now = volume.slots_per_section, volume.block_count, volume.user_writes
    share = head.section_valid / slots
    age = float(volume.clock - section_mtime(volume, section))
    open_age = now - head.opened_at
    out[0] = 1.0
    out[1] = share
    out[2] = min(log2(1.0 + 16.0 * age / count) / 8.0, 1.0)
    out[3] = min(log2(1.0 + (now - head.last_invalidation) / slots) / 8.0, 1.0)
    out[4] = min(log2(1.0 + 16.0 * open_age / count) / 8.0, 1.0)
    out[5] = float(head.relocated)
    out[6] = min(log2(1.0 + 16.0 * age * (1.0 - share) / (1.0 + share) / count) / 8.0, 1.0)
    out[7] = min(log2(1.0 + (1.0 - share) * count / max(open_age, 1)) / 6.0, 1.0)


@compiled
def _observe_utilisation(volume: Record, out: Record) -> None:
    out[:] = 0.0
    slots = volume.slots_per_section
    counts = population(volume)
    dirty = counts[dirty_row(volume)]
    for valid in range(slots):
        if counts[valid]:
            out[valid * UTILISATION_BINS // slots] += counts[valid] / max(dirty, 1)


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
def _keep_lowest(kept: Record, keys: Record, section: int, key: float) -> None:
    # Insertion into a short sorted list.
    position = kept.size - 1
    while position > 0 and key < keys[position - 1]:
        kept[position] = kept[position - 1]
        keys[position] = keys[position - 1]
        position -= 1
    kept[position] = section
    keys[position] = key


@compiled
def _put_first(candidates: Record, section: int) -> None:
    # The suggestion moves to slot 0; what stood there takes its old place, or drops out if it was not a candidate.
    for position in range(candidates.size):
        if candidates[position] == section:
            candidates[position] = candidates[0]
            break
    candidates[0] = section


@compiled
def _drop_repeats(candidates: Record) -> None:
    for position in range(1, candidates.size):
        for before in range(position):
            if candidates[position] == candidates[before]:
                candidates[position] = -1
                break
