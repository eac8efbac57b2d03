"""DAMON of a running kernel, through its files: the same controls as the simulated one.

A file that is not there is a feature that the kernel does not have: settings that need it are refused, others are
written to what is there. Nothing looks at version numbers, since distributions carry features back.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kml_envs.damon.checks import check
from kml_envs.damon.config import Context, Filter, FilterType, QuotaGoal, Scheme, Target
from kml_envs.damon.control import Intervals, SchemeStatistics, Snapshot
from kml_envs.errors import UserError

ADMIN = Path("/sys/kernel/mm/damon/admin")
"""Where the kernel keeps the files."""

LARGEST_KDAMOND = 255
"""A number that was mistyped would make as many."""

_ATTEMPTS = 8
_FIRST_WAIT_S = 0.01
_REGION_FIELDS = ("start", "end", "nr_accesses", "age", "sz_filter_passed")


class SysfsDamon:
    """One kdamond of a kernel; others on the same machine are left alone.

    Attributes:
        root: The folder `admin`.
        kdamond: Number of the kdamond.
    """

    def __init__(self, root: Path = ADMIN, kdamond: int = 0, sleep: Callable[[float], None] = time.sleep) -> None:
        """Look for the files.

        Args:
            root: The folder `admin`.
            kdamond: Number of the kdamond; those up to it are created if there are none at all.
            sleep: Waits for some seconds, when the kernel says that it is busy.

        Raises:
            UserError: There is no such folder, it may not be written, or others have kdamonds but not this one.
        """
        if not (root / "kdamonds" / "nr_kdamonds").exists():
            raise UserError(f"{root}: no DAMON here; it needs CONFIG_DAMON_SYSFS and the rights to see it")
        self.root, self.kdamond, self._sleep = root, kdamond, sleep
        if not 0 <= kdamond <= LARGEST_KDAMOND:
            raise UserError(f"kdamond {kdamond}: must not be negative, nor above {LARGEST_KDAMOND}")
        existing = self._read_number(root / "kdamonds" / "nr_kdamonds")
        if existing == 0:
            self._write(root / "kdamonds" / "nr_kdamonds", kdamond + 1)
        elif existing <= kdamond:
            # A larger number would make the folders of all anew, and what others have set in theirs would be lost.
            raise UserError(
                f"{root}: kdamond {kdamond}: there are {existing}, and more can be had only by removing those: "
                f"take one of 0..{existing - 1}"
            )

    def turn_on(self, context: Context) -> None:
        """Write all settings and start monitoring (see `control.Damon`)."""
        if self.is_on():
            raise UserError(f"kdamond {self.kdamond} is on: turn it off first, or commit to it")
        self._write_context(check(context))
        self._command("on")

    def turn_off(self) -> None:
        """Stop monitoring."""
        self._command("off")

    def is_on(self) -> bool:
        """Whether the kdamond runs."""
        return self._read(self._kdamond / "state") == "on"

    def pid(self) -> int:
        """Process of the kdamond, -1 when it is off."""
        return self._read_number(self._kdamond / "pid")

    def refresh_every(self, milliseconds: int) -> None:
        """Let the kernel refresh what can be read on its own, 0: only when asked."""
        self._write_feature(self._kdamond / "refresh_ms", milliseconds, 0)

    def commit(self, context: Context) -> None:
        """Replace all settings of the running context (see `control.Damon`)."""
        self._write_context(check(context))
        self._command("commit")

    def commit_quota_goals(self, context: Context) -> None:
        """Replace the quota goals only."""
        for number, scheme in enumerate(context.schemes):
            self._write_goals(self._scheme(number) / "quotas", scheme.quotas.goals)
        self._command("commit_schemes_quota_goals")

    def snapshot(self, scheme: int) -> Snapshot:
        """The regions that a scheme tried last; newer kernels answer when it has been applied once more."""
        folder = self._scheme(scheme) / "tried_regions"
        if not folder.exists():
            raise UserError(f"{folder}: this kernel does not have it, Linux 6.2 is the first that does")
        self._command("update_schemes_tried_regions")
        names = sorted((child.name for child in folder.iterdir() if child.name.isdigit()), key=int)
        rows = np.zeros((len(names), len(_REGION_FIELDS)), np.int64)
        for row, name in enumerate(names):
            for column, field in enumerate(_REGION_FIELDS):
                if (folder / name / field).exists():
                    rows[row, column] = self._read_number(folder / name / field)
        total = folder / "total_bytes"
        size = self._read_number(total) if total.exists() else int((rows[:, 1] - rows[:, 0]).sum())
        start, end, accesses, age, passed = rows.T.copy()
        return Snapshot(start, end, accesses, age, passed, size)

    def tried_bytes(self, scheme: int) -> int:
        """Bytes of the regions that a scheme tried last, without their list."""
        self._command("update_schemes_tried_bytes")
        return self._read_number(self._scheme(scheme) / "tried_regions" / "total_bytes")

    def clear_snapshot(self) -> None:
        """Give the memory of the last snapshot back to the kernel."""
        self._command("clear_schemes_tried_regions")

    def statistics(self, scheme: int) -> SchemeStatistics:
        """What a scheme did."""
        self._command("update_schemes_stats")
        folder = self._scheme(scheme) / "stats"
        found = [name for name in SchemeStatistics._fields if (folder / name).exists()]
        return SchemeStatistics(**{name: self._read_number(folder / name) for name in found})

    def effective_bytes(self, scheme: int) -> int:
        """The quota in force of a scheme, 0: none."""
        self._command("update_schemes_effective_quotas")
        return self._read_number(self._scheme(scheme) / "quotas" / "effective_bytes")

    def intervals(self) -> Intervals:
        """The intervals in force."""
        folder = self._context / "monitoring_attrs" / "intervals"
        if (folder / "intervals_goal").exists():
            self._command("update_tuned_intervals")
        return Intervals(self._read_number(folder / "sample_us"), self._read_number(folder / "aggr_us"))

    @property
    def _kdamond(self) -> Path:
        return self.root / "kdamonds" / str(self.kdamond)

    @property
    def _context(self) -> Path:
        return self._kdamond / "contexts" / "0"

    def _scheme(self, number: int) -> Path:
        folder = self._context / "schemes" / str(number)
        if not folder.exists():
            raise UserError(f"scheme {number}: the context has {self._read(folder.parent / 'nr_schemes')}")
        return folder

    def _command(self, command: str) -> None:
        self._write(self._kdamond / "state", command)

    def _write_context(self, context: Context) -> None:
        self._resize(self._kdamond / "contexts", "nr_contexts", 1)
        folder, attributes = self._context, context.monitoring_attrs
        available = folder / "avail_operations"
        if available.exists() and context.operations.value not in self._read(available).split():
            raise UserError(f"{folder}: operations {context.operations.value} are not built into this kernel")
        self._write(folder / "operations", context.operations.value)
        self._write_feature(folder / "addr_unit", context.addr_unit, 1)
        self._write_feature(folder / "pause", context.pause, False)
        intervals, goal = folder / "monitoring_attrs" / "intervals", attributes.intervals_goal
        for name in ("sample_us", "aggr_us", "update_us"):
            self._write(intervals / name, getattr(attributes, name))
        for name in ("access_bp", "aggrs", "min_sample_us", "max_sample_us"):
            self._write_feature(intervals / "intervals_goal" / name, getattr(goal, name), 0)
        limits = folder / "monitoring_attrs" / "nr_regions"
        # The kernel refuses limits that cross at any moment: the upper one goes first if it rises.
        order = [("min", attributes.min_nr_regions), ("max", attributes.max_nr_regions)]
        if attributes.min_nr_regions > self._read_number(limits / "max"):
            order.reverse()
        for name, value in order:
            self._write(limits / name, value)
        self._resize(folder / "targets", "nr_targets", len(context.targets))
        for number, target in enumerate(context.targets):
            self._write_target(folder / "targets" / str(number), target)
        self._resize(folder / "schemes", "nr_schemes", len(context.schemes))
        for number, scheme in enumerate(context.schemes):
            self._write_scheme(self._scheme(number), scheme)

    def _write_target(self, folder: Path, target: Target) -> None:
        if target.pid is not None:
            self._write(folder / "pid_target", target.pid)
        self._write_feature(folder / "obsolete_target", False, False)
        self._resize(folder / "regions", "nr_regions", len(target.regions))
        for number, (start, end) in enumerate(target.regions):
            self._write(folder / "regions" / str(number) / "start", start)
            self._write(folder / "regions" / str(number) / "end", end)

    def _write_scheme(self, folder: Path, scheme: Scheme) -> None:
        pattern, quota, marks = scheme.access_pattern, scheme.quotas, scheme.watermarks
        self._write(folder / "action", scheme.action.value)
        self._write_feature(folder / "target_nid", scheme.target_nid, -1)
        self._write_feature(folder / "apply_interval_us", scheme.apply_interval_us, 0)
        for name in ("sz", "nr_accesses", "age"):
            for end in ("min", "max"):
                self._write(folder / "access_pattern" / name / end, getattr(pattern, f"{end}_{name}"))
        for name in ("ms", "bytes", "reset_interval_ms"):
            self._write(folder / "quotas" / name, getattr(quota, name))
        self._write_feature(folder / "quotas" / "goal_tuner", quota.goal_tuner.value, "consist")
        for name in ("fail_charge_num", "fail_charge_denom"):
            self._write_feature(folder / "quotas" / name, getattr(quota, name), 0)
        for name in ("sz_permil", "nr_accesses_permil", "age_permil"):
            self._write(folder / "quotas" / "weights" / name, getattr(quota.weights, name))
        self._write_goals(folder / "quotas", quota.goals)
        self._write(folder / "watermarks" / "metric", marks.metric.value)
        for name in ("interval_us", "high", "mid", "low"):
            self._write(folder / "watermarks" / name, getattr(marks, name))
        self._write_filters(folder, scheme)
        self._resize_feature(folder / "dests", "nr_dests", len(scheme.dests))
        for number, destination in enumerate(scheme.dests):
            self._write(folder / "dests" / str(number) / "id", destination.id)
            self._write(folder / "dests" / str(number) / "weight", destination.weight)
        self._write_feature(folder / "stats" / "max_nr_snapshots", scheme.max_nr_snapshots, 0)

    def _write_goals(self, quotas: Path, goals: tuple[QuotaGoal, ...]) -> None:
        self._resize_feature(quotas / "goals", "nr_goals", len(goals))
        for number, goal in enumerate(goals):
            folder = quotas / "goals" / str(number)
            self._write_feature(folder / "target_metric", goal.target_metric.value, "user_input")
            self._write(folder / "target_value", goal.target_value)
            self._write(folder / "current_value", goal.current_value)
            self._write_feature(folder / "nid", goal.nid, 0)
            self._write_feature(folder / "path", goal.path, "")

    def _write_filters(self, folder: Path, scheme: Scheme) -> None:
        split = (folder / "core_filters").exists()
        groups = {"core_filters": scheme.core_filters, "ops_filters": scheme.ops_filters}
        if not split:
            groups = {"filters": scheme.filters}
        elif (folder / "filters").exists():
            groups["filters"] = ()
        for name, filters in groups.items():
            self._resize_feature(folder / name, "nr_filters", len(filters))
            for number, item in enumerate(filters):
                self._write_filter(folder / name / str(number), item)

    def _write_filter(self, folder: Path, item: Filter) -> None:
        self._write(folder / "type", item.type.value)
        self._write(folder / "matching", "Y" if item.matching else "N")
        self._write_feature(folder / "allow", "Y" if item.allow else "N", "N")
        used = {
            FilterType.MEMCG: ("memcg_path",),
            FilterType.HUGEPAGE_SIZE: ("min", "max"),
            FilterType.ADDR: ("addr_start", "addr_end"),
            FilterType.TARGET: ("damon_target_idx",),
        }
        for name in used.get(item.type, ()):
            self._write(folder / name, getattr(item, name))

    def _resize(self, folder: Path, name: str, count: int) -> None:
        # Writing a number makes all of its folders anew: what the kernel keeps in them would be lost.
        if self._read_number(folder / name) != count:
            self._write(folder / name, count)

    def _resize_feature(self, folder: Path, name: str, count: int) -> None:
        if (folder / name).exists():
            self._resize(folder, name, count)
        elif count:
            raise UserError(f"{folder / name}: this kernel does not have it")

    def _write_feature(self, file: Path, value: object, default: object) -> None:
        if file.exists():
            self._write(file, value)
        elif value != default:
            raise UserError(f"{file}: this kernel does not have it, and {value} is not what it does without")

    def _write(self, file: Path, value: object) -> None:
        text = ("Y" if value else "N") if isinstance(value, bool) else str(value)
        for wait in _waits():
            try:
                file.write_text(text)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise UserError(f"{file}: the kernel refuses {text!r}: {error.strerror}") from error
            self._sleep(wait)
        raise UserError(f"{file}: the kernel was busy at {_ATTEMPTS} attempts to write {text!r}")

    def _read(self, file: Path) -> str:
        try:
            return file.read_text().strip()
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from error

    def _read_number(self, file: Path) -> int:
        text = self._read(file)
        try:
            return int(text)
        except ValueError as error:
            raise UserError(f"{file}: {text!r} is not a number") from error


def _waits() -> Iterator[float]:
    """Seconds to wait after each attempt, twice as long each time."""
    for attempt in range(_ATTEMPTS):
        yield _FIRST_WAIT_S * 2**attempt
