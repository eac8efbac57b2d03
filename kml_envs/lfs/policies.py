"""The built-in algorithms: which section a cleaning takes.

Every policy gives each candidate a cost; the lowest wins, strictly, in scan order from where the last scan ended
(fs/f2fs/gc.c, f2fs_get_victim). Candidates are the dirty sections: sealed, some blocks valid and some not.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled, lowest_bit
from kml_envs.lfs.config import CleaningPolicy, Trigger
from kml_envs.lfs.foresight import clairvoyant_cost, informed_cost
from kml_envs.lfs.ordering import stable_order
from kml_envs.lfs.score import best_score, dirty_word, section_mtime
from kml_envs.lfs.section_index import fewest_valid, first_section, first_section_around, last_section
from kml_envs.lfs.victim_costs import (
    UINT_MAX,
    age_threshold_cost,
    cost_age_times_cost,
    cost_benefit_cost,
    cost_benefit_envy_cost,
    cost_benefit_f2fs,
    cost_benefit_sqrt_cost,
    fifo_cost,
    greedy_cost,
)
from kml_envs.lfs.volume import (
    SegmentState,
    dirty_row,
    mtimes,
    population,
    sealed_at,
    section_states,
    section_valid,
    sections,
)
from kml_envs.workloads.source import random_below

ATGC_CANDIDATE_RATIO = 20  # percent
ATGC_CANDIDATE_COUNT = 10


@compiled
def select_victim(volume: Record, policy: int) -> int:
    """Choose the section to clean.

    Args:
        volume: The VOLUME record; its scan start and random state advance.
        policy: A CleaningPolicy.

    Returns:
        Section number, or -1 when there is no candidate.
    """
    if policy == CleaningPolicy.RANDOM:
        return random_victim(volume)
    if policy == CleaningPolicy.D_CHOICES:
        return best_of_choices(volume)
    fewest = fewest_valid(volume)
    if fewest < 0:
        return -1
    start = np.int64(volume.scan_start)
    if policy == CleaningPolicy.GREEDY:
        victim = first_section_around(volume, fewest, start)
    elif policy == CleaningPolicy.SCORE:
        victim = best_score(volume, start)
    elif policy == CleaningPolicy.ATGC:
        victim = age_threshold_victim(volume, start)
    elif policy == CleaningPolicy.WINDOWED_GREEDY:
        victim = windowed_greedy_victim(volume, start)
    else:
        victim = _best_of_scan(volume, policy, start, np.int64(0))
    volume.scan_start = _next_scan_start(volume, policy, start)
    return victim


@compiled
def victim_cost(volume: Record, section: int, policy: int, oldest: int) -> float:
    """Cost of cleaning a dirty section; the policy takes the lowest. The formulas stand in `victim_costs.py`.

    Args:
        volume: The VOLUME record.
        section: A dirty section.
        policy: A CleaningPolicy that judges sections one by one.
        oldest: `oldest_mtime`, needed by COST_BENEFIT_F2FS only: once a scan, not once a candidate.

    Returns:
        The cost; infinite for a protected section.
    """
    settings = volume.settings
    slots, section_blocks = volume.slots_per_section, section_valid(volume)[section]
    if policy == CleaningPolicy.GREEDY or policy == CleaningPolicy.WINDOWED_GREEDY:
        return greedy_cost(section_blocks)
    if policy == CleaningPolicy.COST_BENEFIT_F2FS:
        valid, mtime = section_blocks // volume.segments_per_section, section_mtime(volume, section)
        return float(cost_benefit_f2fs(valid, mtime, oldest, volume.newest_mtime, volume.block_shift))
    if policy == CleaningPolicy.FIFO:
        return fifo_cost(sealed_at(volume)[section], volume.clock, settings.protection)
    if policy == CleaningPolicy.CLAIRVOYANT:
        return clairvoyant_cost(volume, section)
    if policy == CleaningPolicy.INFORMED:
        return informed_cost(volume, section)
    utilisation = section_blocks / slots
    age = float(volume.clock - section_mtime(volume, section))
    if policy == CleaningPolicy.COST_BENEFIT:
        return cost_benefit_cost(utilisation, age)
    if policy == CleaningPolicy.COST_BENEFIT_ENVY:
        return cost_benefit_envy_cost(utilisation, age)
    if policy == CleaningPolicy.COST_BENEFIT_SQRT:
        return cost_benefit_sqrt_cost(utilisation, age)
    if policy == CleaningPolicy.CAT:
        return cost_age_times_cost(utilisation, age, sections(volume)[section].erases)
    return np.inf


@compiled
def random_victim(volume: Record) -> int:
    """A sealed section drawn at random; -1 if no section is dirty (Van Houdt, SIGMETRICS 2013, with d = 1)."""
    return _best_of_drawn(volume, np.int64(1))


@compiled
def best_of_choices(volume: Record) -> int:
    """d-choices: the fewest valid blocks of `choices` sealed sections drawn at random; -1 if no section is dirty.

    Van Houdt, "A Mean Field Model for a Class of Garbage Collection Algorithms in Flash-based Solid State Drives",
    SIGMETRICS 2013.
    """
    return _best_of_drawn(volume, volume.settings.choices)


@compiled
def windowed_greedy_victim(volume: Record, start: int) -> int:
    """The fewest valid blocks among the oldest sections, a share `window` of the dirty ones.

    Hu, Eleftheriou, Haas, Iliadis and Pletka, "Write Amplification Analysis in Flash-Based Solid State Drives",
    SYSTOR 2009.

    Args:
        volume: The VOLUME record, with a dirty section.
        start: Section where the scan begins.

    Returns:
        Section number.
    """
    return _best_of_scan(volume, np.int64(CleaningPolicy.WINDOWED_GREEDY), start, _window_end(volume))


@compiled
def oldest_mtime(volume: Record) -> int:
    """Smallest mtime of all segments, free and never written ones too (fs/f2fs/gc.c, init_min_max_mtime)."""
    oldest = mtimes(volume)[0]
    for segment in range(1, volume.segment_count):
        oldest = min(oldest, mtimes(volume)[segment])
    return oldest


@compiled
def _best_of_scan(volume: Record, policy: int, start: int, sealed_before: int) -> int:
    left = np.int64(population(volume)[dirty_row(volume)])
    if volume.settings.max_search > 0:
        left = min(left, np.int64(volume.settings.max_search))
    settings = volume.settings
    slots = volume.slots_per_section
    most_valid = slots
    if settings.trigger == Trigger.GARBAGE_SHARE:
        most_valid = np.int64(slots * (1.0 - settings.garbage_share))
    oldest = oldest_mtime(volume) if policy == CleaningPolicy.COST_BENEFIT_F2FS else np.int64(0)
    # F2FS's search starts from the largest cost, so that a section of that cost is never taken (get_max_cost).
    best, lowest = np.int64(-1), float(UINT_MAX) if policy == CleaningPolicy.COST_BENEFIT_F2FS else np.inf
    for step in range(volume.word_count + 1):
        first, bits = dirty_word(volume, step, start)
        while bits != 0 and left > 0:
            left -= 1
            section = first + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            in_window = sealed_before == 0 or sealed_at(volume)[section] < sealed_before
            if in_window and section_valid(volume)[section] <= most_valid:
                cost = victim_cost(volume, section, policy, oldest)
                if cost < lowest:
                    best, lowest = section, cost
    return best


@compiled
def _next_scan_start(volume: Record, policy: int, start: int) -> int:
    # f2fs_get_victim leaves last_victim one past the last candidate seen, or one past the old start when the
    # scan wrapped around; a full scan therefore moves on by one.
    limit = volume.settings.max_search
    if 0 < limit < population(volume)[dirty_row(volume)] and policy != CleaningPolicy.ATGC:
        last = start - 1
        for _ in range(limit):
            last = first_section(volume, dirty_row(volume), last + 1)
            if last < 0:
                return (start + 1) % volume.section_count
        return (last + 1) % volume.section_count
    first = first_section(volume, dirty_row(volume), 0)
    if first < 0:
        return start
    if first < start:
        return (start + 1) % volume.section_count
    return (last_section(volume, dirty_row(volume)) + 1) % volume.section_count


@compiled
def _best_of_drawn(volume: Record, choices: int) -> int:
    # Any sealed section may be drawn, fully valid ones too: that is what the mean-field formula describes.
    if population(volume)[dirty_row(volume)] == 0:
        return -1
    best, fewest = np.int64(-1), np.int64(2**31)
    drawn = 0
    while drawn < choices:
        section = random_below(volume, volume.section_count)
        state = section_states(volume)[section]
        if state == SegmentState.DIRTY or state == SegmentState.FULL:
            drawn += 1
            if section_valid(volume)[section] < fewest:
                best, fewest = section, np.int64(section_valid(volume)[section])
    return best


@compiled
def _window_end(volume: Record) -> int:
    count = np.int64(population(volume)[dirty_row(volume)])
    sealed = np.empty(count, np.int64)
    section = np.int64(-1)
    for position in range(count):
        section = first_section(volume, dirty_row(volume), section + 1)
        sealed[position] = sealed_at(volume)[section]
    return sealed[stable_order(sealed)[min(np.int64(volume.settings.window * count), count - 1)]] + 1


@compiled
def age_threshold_victim(volume: Record, start: int) -> int:
    """ATGC: the cheapest by `age_threshold_cost` among the oldest candidates (fs/f2fs/gc.c, atgc_lookup_victim).

    Sections are candidates that are at least `candidate_age` older than the youngest; all are, where none is. Of these
    the oldest are looked at: a fifth, but ten at least.

    Args:
        volume: The VOLUME record, with a dirty section.
        start: Section where the scan begins.

    Returns:
        Section number.
    """
    count = np.int64(population(volume)[dirty_row(volume)])
    slots = volume.slots_per_section
    found, modified = np.empty(count, np.int64), np.empty(count, np.int64)
    section = first_section_around(volume, dirty_row(volume), start)
    for position in range(count):
        found[position] = section
        modified[position] = section_mtime(volume, section)
        section = first_section_around(volume, dirty_row(volume), section + 1)
    order = stable_order(modified)
    oldest, newest = modified[order[0]], modified[order[count - 1]]
    candidates = np.int64(0)
    while candidates < count and newest - modified[order[candidates]] >= volume.settings.candidate_age:
        candidates += 1
    if candidates == 0:
        candidates = count
    looked_at = min(max(ATGC_CANDIDATE_COUNT, ATGC_CANDIDATE_RATIO * candidates // 100), candidates)
    best, lowest = np.int64(-1), np.int64(UINT_MAX)
    for rank in range(looked_at):
        position = order[rank]
        valid = np.int64(section_valid(volume)[found[position]])
        cost = age_threshold_cost(modified[position], slots - valid, slots, oldest, newest)
        if cost < lowest:
            best, lowest = found[position], cost
    return best
