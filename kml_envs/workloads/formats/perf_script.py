"""DAMON's tracepoints as `perf script` prints them: one line for each region, gathered into snapshots.

Format: the kernel's include/trace/events/damon.h. `damon_aggregated` comes for all regions of a target together, and
`nr_regions` tells how many there are. `damos_before_apply` comes for those alone that a scheme is applied to, while
`nr_regions` is still the number of all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal

from kml_envs.errors import UserError
from kml_envs.workloads.snapshots import DEFAULT_SAMPLES, RecordedSnapshot, SnapshotRecord, snapshot_of

_EVENT = re.compile(
    r".*?\s(?P<seconds>\d+\.\d+):\s+(?:damon:)?(?:damon_aggregated|damos_before_apply):\s+(?P<fields>.*)"
)
_TUNED = re.compile(r".*damon_monitor_intervals_tune:\s+sample_us=(\d{1,20})(?!\d)")
# Numbers of 64 bits have 20 digits at most; Python would refuse to convert thousands.
_REGION = re.compile(r"(?<!\d)(\d{1,20})-(\d{1,20}):\s+(\d{1,20})(?:\s+(\d{1,20}))?\s*$")
_FIELD = re.compile(r"(\w+)=(\d{1,20})(?!\d)")

_AGGREGATION_NS = 100_000_000  # unless it was tuned: DAMON's default
_PASS_SHARE = 4
"""A scheme's next pass over the regions begins at least this part of an aggregation after the last region of one.

Passes are an aggregation apart, less what the last action took; the regions of one follow each other much faster.
"""

_Row = tuple[int, int, int, int]


@dataclass
class _Gathered:
    """What was read of a target, or of what a scheme tried of it."""

    snapshots: list[RecordedSnapshot] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    where: str = ""  # the last line
    end_ns: int = -1

    def close(self, sample_us: int) -> None:
        """Make a snapshot of the rows."""
        start_ns = self.snapshots[-1].end_ns if self.snapshots else -1
        aggr_us = sample_us * DEFAULT_SAMPLES
        self.snapshots.append(snapshot_of(self.where, start_ns, self.end_ns, self.rows, sample_us, aggr_us))
        self.rows = []


def is_damon_event(line: str) -> bool:
    """Whether a line is one of the events that are read."""
    return _EVENT.match(line) is not None


def read_perf_script(path: str, content: bytes) -> list[SnapshotRecord]:
    """Gather the events of each target and scheme into snapshots.

    Where `damon_monitor_intervals_tune` told a sampling interval, the snapshots after it keep it, and an aggregation
    interval of 20 times that: the event does not tell the ratio.

    Args:
        path: What errors call it.
        content: The text.

    Raises:
        UserError: A line cannot be read, or the time goes back.
    """
    gathered: dict[tuple[int, int, int], _Gathered] = {}
    sample_us = 0
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if tuned := _TUNED.match(line):
            for (_, scheme, _), one in gathered.items():
                if scheme >= 0 and one.rows:  # belong to the aggregation at whose end the interval changed
                    one.close(sample_us)
            sample_us = int(tuned[1])
        match = _EVENT.match(line)
        if not match:
            continue
        where = f"{path}, line {number}"
        fields = dict(_FIELD.findall(match["fields"]))
        region = _REGION.search(match["fields"])
        if region is None or "nr_regions" not in fields:
            raise UserError(f"{where}: '...nr_regions=N START-END: ACCESSES AGE' is expected")
        key = (
            int(fields.get("ctx_idx", 0)),
            int(fields.get("scheme_idx", -1)),
            int(fields.get("target_idx") or fields.get("target_id", 0)),
        )
        one = gathered.setdefault(key, _Gathered())
        row = (int(region[1]), int(region[2]), int(region[3]), int(region[4] or "-1"))
        time_ns = int(Decimal(match["seconds"]) * 10**9)
        if time_ns < one.end_ns:
            raise UserError(f"{where}: the time goes back")
        of_scheme = key[1] >= 0
        if of_scheme and one.rows and _begins_a_pass(one, row, time_ns, sample_us):
            one.close(sample_us)
        one.rows.append(row)
        one.where, one.end_ns = where, time_ns
        if not of_scheme and len(one.rows) >= int(fields["nr_regions"]):
            one.close(sample_us)
    for (_, scheme, _), one in gathered.items():
        if scheme >= 0 and one.rows:
            one.close(sample_us)
    return [
        SnapshotRecord(tuple(one.snapshots), target=target, context=context, scheme=scheme)
        for (context, scheme, target), one in gathered.items()
    ]


def _begins_a_pass(one: _Gathered, row: _Row, time_ns: int, sample_us: int) -> bool:
    aggregation_ns = sample_us * DEFAULT_SAMPLES * 1000 or _AGGREGATION_NS
    return row[0] < one.rows[-1][1] or time_ns - one.end_ns > aggregation_ns // _PASS_SHARE
