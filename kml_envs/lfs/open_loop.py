"""The loop of a volume in time: writes arrive by themselves, and cleaning happens between them or in their way.

*Background* cleaning happens at wake-ups before the next write arrives: those of the built-in algorithm's thread, and,
where an agent is asked, quiet times that grow by a factor of four (`timeline.next_wake`) and the end of each of its
operations. A write that arrives meanwhile waits for the operation under way. *Foreground* cleaning happens when a write
arrives and free sections are at or below the cleaning trigger; the write waits until they are not. An agent may let it
through sooner, down to the reserve, where only the built-in algorithm acts.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.background import background_policy, builtin_wake, builtin_wakes, next_victim
from kml_envs.lfs.cleaning import clean_partly, finish_if_empty, is_critical
from kml_envs.lfs.config import CleaningPolicy
from kml_envs.lfs.timeline import NONE, next_wake, note_arrival, note_completion
from kml_envs.lfs.volume import dirty_row, population, slots_per_section
from kml_envs.lfs.writing import write_block
from kml_envs.workloads.source import next_block

WRITES_LET_THROUGH = 16  # a section's writes divided by this, when foreground cleaning is put off


@compiled
def advance_open_loop_rows(volumes: Record, rows: Record, until: Record, ask: Record) -> None:
    """`advance_open_loop` the given rows: rows (R,) int64 instances, until (N,) int64 and ask (N,) bool by instance."""
    for row in rows:
        advance_open_loop(volumes[row], until[row], ask[row])


@compiled
def advance_open_loop(volume: Record, until: int, ask: bool) -> None:
    """Let time pass until a decision is needed or the count of user writes is reached.

    Args:
        volume: The VOLUME record; its workload has arrival times, and its cleaning trigger is FREE_SECTIONS.
        until: Stop when `user_writes` reaches this count; what is due then belongs to the write that comes after.
        ask: Stop with `pending` set, `suggestion` being what the built-in algorithm would clean (-1: nothing), when a
            decision can be made and the volume is not critical; otherwise the built-in algorithm decides.
    """
    timeline = volume.timeline
    while volume.exhausted == 0 and volume.user_writes < until:
        if volume.user_writes < volume.block_count:
            write_block(volume, np.int64(volume.user_writes), np.int64(-1))
            continue
        if timeline.coming < 0:
            timeline.coming = next_block(volume.source)
        asked = ask and not is_critical(volume) and _has_victim(volume)
        arrival_ns = np.int64(volume.source.arrival_ns)
        thread_ns = builtin_wake(volume)
        wake_ns = min(thread_ns, np.int64(timeline.wake_ns)) if asked else thread_ns
        if wake_ns < arrival_ns:
            suggestion = NONE
            timeline.now_ns = wake_ns
            timeline.foreground = 0
            if thread_ns == wake_ns:
                suggestion = builtin_wakes(volume)
            if asked and (suggestion >= 0 or timeline.wake_ns <= wake_ns):
                _ask(volume, suggestion)
                return
            operate(volume, suggestion, slots_per_section(volume))
        elif _is_short(volume):
            timeline.now_ns = arrival_ns
            timeline.foreground = 1
            suggestion = next_victim(volume, np.int64(CleaningPolicy.GREEDY))
            if asked:
                _ask(volume, suggestion)
                return
            operate(volume, suggestion, slots_per_section(volume))
            timeline.let_through = suggestion < 0
        else:
            _write(volume, arrival_ns)


@compiled
def wait_open_loop(volume: Record, until: int) -> None:
    """Let time pass while a decision is pending: what arrives is written without cleaning, down to the reserve.

    Args:
        volume: The VOLUME record, with a decision pending; afterwards its time and `suggestion` are those of the end.
        until: Time ends when `user_writes` reaches this count, or when so many writes would have been made one after
            another: in a gap fewer arrive.
    """
    timeline = volume.timeline
    end_ns = np.int64(timeline.now_ns + (until - volume.user_writes) * volume.settings.write_ns)
    while volume.exhausted == 0 and volume.user_writes < until and not is_critical(volume):
        if timeline.coming < 0:
            timeline.coming = next_block(volume.source)
        arrival_ns = np.int64(volume.source.arrival_ns)
        if arrival_ns > end_ns:
            timeline.now_ns = end_ns
            break
        _write(volume, arrival_ns)
        timeline.now_ns = max(timeline.now_ns, arrival_ns)
    if volume.suggestion >= 0:
        policy = np.int64(CleaningPolicy.GREEDY) if timeline.foreground else np.int64(background_policy(volume))
        volume.suggestion = next_victim(volume, policy)


@compiled
def carry_out(volume: Record, victim: int, quota: int) -> None:
    """Carry out the pending decision.

    Args:
        volume: The VOLUME record, with a decision pending.
        victim: A section that may be cleaned; -1: wait until the next wake-up, or let a sixteenth of a section of
            writes through.
        quota: Most blocks to move. A foreground operation that may not clean its whole victim lets one write through.
    """
    timeline = volume.timeline
    volume.pending = 0
    timeline.slowest_ns = 0
    timeline.waits += victim < 0
    if timeline.foreground:
        slots = slots_per_section(volume)
        timeline.let_through = max(slots // WRITES_LET_THROUGH, 1) if victim < 0 else np.int64(quota < slots)
    operate(volume, victim, quota)


@compiled
def operate(volume: Record, victim: int, quota: int) -> None:
    """Clean now, or wait: the agent's next wake-up follows from it.

    Args:
        volume: The VOLUME record; `timeline` holds what it is about and when.
        victim: A section; -1: none.
        quota: Most blocks to move.
    """
    timeline = volume.timeline
    if victim < 0:
        timeline.wake_ns = max(np.int64(timeline.wake_ns), next_wake(timeline))
    else:
        clean_partly(volume, victim, quota, np.int64(timeline.now_ns))
        timeline.wake_ns = volume.busy_until_ns
        timeline.foreground_operations += timeline.foreground
        timeline.background_operations += 1 - timeline.foreground


@compiled
def _ask(volume: Record, suggestion: int) -> None:
    volume.pending = 1
    volume.suggestion = suggestion


@compiled
def _has_victim(volume: Record) -> bool:
    return volume.timeline.victim >= 0 or population(volume)[dirty_row(volume)] > 0


@compiled
def _is_short(volume: Record) -> bool:
    return volume.free_sections <= volume.settings.trigger_sections and volume.timeline.let_through == 0


@compiled
def _write(volume: Record, arrival_ns: int) -> None:
    timeline = volume.timeline
    note_arrival(timeline, arrival_ns)
    write_block(volume, np.int64(timeline.coming), arrival_ns)
    note_completion(timeline, arrival_ns, np.int64(volume.completed_ns))
    finish_if_empty(volume)
