"""Built-in background cleaning of an open-loop volume: when its thread wakes, and which section it then takes.

The three algorithms clean the same file system, with greedy foreground cleaning as a safety net, so that they differ in
when and what they clean in the background and in nothing else. All functions work on one VOLUME record.
"""

from __future__ import annotations

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.config import Background, CleaningPolicy
from kml_envs.lfs.f2fs import NEVER, background_done, policy_of
from kml_envs.lfs.kernels import f2fs_thread_cleans, oldest_sections
from kml_envs.lfs.load_gate import gate_opens
from kml_envs.lfs.nilfs2 import is_deferred, look, sleep_after, step_size
from kml_envs.lfs.policies import select_victim
from kml_envs.lfs.timeline import NONE
from kml_envs.lfs.volume import sealed_at, section_valid, slots_per_section


@compiled
def builtin_wake(volume: Record) -> int:
    """When the built-in algorithm's thread wakes next, in nanoseconds."""
    background = volume.timeline.background
    if background == Background.F2FS:
        return int(volume.f2fs.wake_ns)
    if background == Background.CLEANERD:
        return int(volume.cleanerd.wake_ns)
    if background == Background.LOAD_GATE:
        return int(volume.timeline.gate_wake_ns)
    return NEVER


@compiled
def builtin_wakes(volume: Record) -> int:
    """The built-in algorithm's thread wakes at its wake time and decides; the wake time advances.

    Args:
        volume: The VOLUME record.

    Returns:
        The section to clean, the one that has been cleaned in part first; -1: none.
    """
    background = volume.timeline.background
    if background == Background.F2FS:
        return _f2fs_wakes(volume)
    if background == Background.CLEANERD:
        return _cleanerd_wakes(volume)
    return _load_gate_wakes(volume)


@compiled
def background_policy(volume: Record) -> int:
    """The CleaningPolicy by which the built-in algorithm chooses in the background."""
    background = volume.timeline.background
    if background == Background.F2FS:
        return policy_of(volume.f2fs.gc_mode, True, False)
    return CleaningPolicy.FIFO.value if background == Background.CLEANERD else CleaningPolicy.GREEDY.value


@compiled
def next_victim(volume: Record, policy: int) -> int:
    """The section that is cleaned next: the one that has been cleaned in part, else the policy's choice; -1: none."""
    if volume.timeline.victim >= 0:
        return int(volume.timeline.victim)
    return int(select_victim(volume, policy))


@compiled
def _f2fs_wakes(volume: Record) -> int:
    f2fs = volume.f2fs
    f2fs.request_ns = volume.timeline.request_ns
    victim = NONE
    if f2fs_thread_cleans(volume):
        victim = next_victim(volume, np.int64(background_policy(volume)))
        background_done(f2fs, victim >= 0)
    f2fs.wake_ns += f2fs.sleep_ns
    return victim


@compiled
def _cleanerd_wakes(volume: Record) -> int:
    # A step of several segments is as many decisions at the same time, each deferred by itself.
    cleanerd, timeline = volume.cleanerd, volume.timeline
    clean_segments = int(volume.free_sections)
    if timeline.step_left == 0 and look(cleanerd, clean_segments, int(volume.clock)):
        timeline.step_left = step_size(cleanerd, clean_segments)
        if timeline.step_left == 0:
            cleanerd.wake_ns += sleep_after(cleanerd, clean_segments, 0, True)
            return NONE
    victim, taken = NONE, 0
    while timeline.step_left > 0:
        timeline.step_left -= 1
        taken = 1
        victim = _oldest_section(volume)
        if victim < 0:
            timeline.step_left = taken = 0
        elif _is_worth_it(volume, victim):
            cleanerd.cleaned += 1
            break
        else:
            cleanerd.deferred += 1
            sealed_at(volume)[victim] = volume.user_writes
            victim = NONE
    if timeline.step_left == 0:
        cleanerd.wake_ns += sleep_after(cleanerd, clean_segments, taken, False)
    return victim


@compiled
def _oldest_section(volume: Record) -> int:
    if volume.timeline.victim >= 0:
        return int(volume.timeline.victim)
    selection = np.empty(1, np.int64)
    return int(selection[0]) if oldest_sections(volume, volume.user_writes, selection) > 0 else NONE


@compiled
def _is_worth_it(volume: Record, section: int) -> bool:
    if section == volume.timeline.victim:
        return True
    live = int(section_valid(volume)[section])
    return not is_deferred(volume.cleanerd, int(volume.free_sections), 1, slots_per_section(volume) - live)


@compiled
def _load_gate_wakes(volume: Record) -> int:
    # SSDFS's threads touch only segments that are under migration, of which there are few; here they stop at twice the
    # cleaning trigger. Requests pending to be flushed are the user writes since the last look.
    timeline = volume.timeline
    pending = volume.user_writes - timeline.gate_writes
    timeline.gate_writes = volume.user_writes
    timeline.gate_wake_ns += timeline.gate_interval_ns
    if gate_opens(timeline, pending) and volume.free_sections <= 2 * volume.settings.trigger_sections:
        return next_victim(volume, np.int64(CleaningPolicy.GREEDY))
    return NONE
