"""What the built-in algorithm alone pays, written down ahead of the agent that is compared with it.

Brought to the agent's progress after every operation, N volumes would each come to the processor's cache for one
cleaning and leave it again. Here a volume runs many cleanings ahead instead, once it is there, and its course says
what it had paid at any progress in between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.lfs.cleaning import clean
from kml_envs.lfs.look_ahead import begin_look_ahead
from kml_envs.lfs.simulator import step
from kml_envs.lfs.subsystem import BoolArray, FloatArray, IntArray, LfsVolumes
from kml_envs.lfs.warmup import WarmVolumes

LENGTH = 128
"""Operations that a course holds."""

STRIDE = 0.5
"""User writes, in volumes, that a volume runs ahead at the most."""

COURSE = np.dtype(
    [
        ("progress", np.int64, LENGTH),  # user writes at which an operation was due
        ("cost", np.int64, LENGTH),  # blocks moved in all, with it
        ("count", np.int64),  # operations written down
        ("position", np.int64),  # those of them that are paid
        ("paid", np.int64),  # blocks moved at the progress asked for last
    ]
)


class VolumeShadow:
    """N volumes under the built-in algorithm, as a `proxy.protocols.Shadow`."""

    def __init__(self, warm: WarmVolumes, instances: int) -> None:
        """Allocate the volumes; `warm` says where episodes begin."""
        self._volumes = LfsVolumes(warm, instances)
        self._courses = np.zeros(instances, COURSE)

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows (N,) bool with their seeds (N,) uint64."""
        self._volumes.reset(rows, seeds)
        self._courses[rows] = np.zeros(1, COURSE)
        self._courses["paid"][rows] = self._volumes.state.volumes["moved"][rows]

    def cost_at(self, progress: IntArray) -> FloatArray:
        """(N,) float64: blocks moved when the user writes have come to `progress` (N,) int64."""
        costs = np.zeros(self._courses.size)
        _costs_at(self._volumes.state.volumes, self._courses, np.ascontiguousarray(progress), costs)
        return costs


@compiled
def _costs_at(volumes: Record, courses: Record, progress: Record, costs: Record) -> None:
    for i in range(volumes.size):
        costs[i] = _cost_at(volumes[i], courses[i], progress[i])


@compiled
def _cost_at(volume: Record, course: Record, progress: int) -> int:
    while True:
        while course.position < course.count and course.progress[course.position] < progress:
            course.paid = course.cost[course.position]
            course.position += 1
        if course.position < course.count or volume.user_writes >= progress or volume.exhausted != 0:
            return int(course.paid)
        _run_ahead(volume, course, progress + int(STRIDE * volume.block_count))


@compiled
def _run_ahead(volume: Record, course: Record, until: int) -> None:
    """Begin the course anew, until it is full or the user writes have come to a count."""
    course.position = course.count = 0
    if volume.looks_ahead:
        begin_look_ahead(volume)
    if volume.pending:  # where episodes begin
        clean(volume, volume.suggestion)
        _note(volume, course, volume.user_writes)
    while volume.exhausted == 0 and volume.user_writes < until and course.count < LENGTH:
        due, moved = volume.user_writes, volume.moved
        step(volume, False)
        if volume.moved > moved:
            _note(volume, course, due)


@compiled
def _note(volume: Record, course: Record, due: int) -> None:
    course.progress[course.count] = due
    course.cost[course.count] = volume.moved
    course.count += 1
