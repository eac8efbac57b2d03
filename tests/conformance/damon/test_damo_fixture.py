"""Numbers that damo reports of the recording among its own tests, read and counted by this project's reader.

The recording is under the GPL and so does not come with this project: it is `tests/report/damon.data` of damo's source.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from kml_envs.workloads.formats.damo import read_damo
from kml_envs.workloads.snapshots import SKIPPED_SNAPSHOTS, percentile, working_set_sizes

VARIABLE = "KML_ENVS_DAMO_FIXTURE"
WORKING_SET = {
    1: 99_979_264,
    2: 99_987_456,
    8: 99_995_648,
    25: 100_024_320,
    50: 100_024_320,
    75: 100_028_416,
    99: 200_060_928,
    100: 206_434_304,
}


@pytest.fixture(scope="module")
def record():
    if not (path := os.environ.get(VARIABLE)):
        pytest.skip(f"{VARIABLE} names no file: tests/report/damon.data of damo's source, which is under the GPL")
    [found] = read_damo(Path(path))
    return found


def test_snapshots(record):
    assert len(record.snapshots) == 543


def test_working_set_sizes(record):
    sizes = working_set_sizes(record.snapshots)
    assert int(sizes.mean()) == 113_456_913
    assert {percent: percentile(sizes, percent) for percent in WORKING_SET} == WORKING_SET


def test_numbers_of_regions(record):
    counts = np.array([snapshot.start.size for snapshot in record.snapshots[SKIPPED_SNAPSHOTS:]])
    assert int(counts.mean()) == 18
    assert [percentile(counts, percent) for percent in (1, 99, 100)] == [16, 21, 21]


def test_what_a_heatmap_covers(record):
    """`damo report heatmap --guide`: the time, and the ranges of addresses that any region was found in."""
    assert (record.snapshots[0].start_ns, record.snapshots[-1].end_ns) == (539_809_434_100, 596_606_618_651)
    found = sorted(
        (int(start), int(end))
        for snapshot in record.snapshots
        for start, end in zip(snapshot.start, snapshot.end, strict=True)
    )
    ranges = [list(found[0])]
    for start, end in found[1:]:
        if start > ranges[-1][1]:
            ranges.append([start, end])
        ranges[-1][1] = max(ranges[-1][1], end)
    assert [end - start for start, end in ranges] == [33_153_024, 206_409_728, 688_128]
