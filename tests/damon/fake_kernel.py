"""A DAMON sysfs tree in an ordinary folder, which answers writes as the kernel does: new folders, refusals, results."""

import errno
import shutil

FEATURES = {
    "refresh_ms",
    "addr_unit",
    "pause",
    "intervals_goal",
    "obsolete_target",
    "target_nid",
    "apply_interval_us",
    "effective_bytes",
    "goal_tuner",
    "fail_charge",
    "goals",
    "target_metric",
    "nid",
    "path",
    "filters",
    "core_filters",
    "allow",
    "dests",
    "sz_ops_filter_passed",
    "nr_snapshots",
    "tried_regions",
    "total_bytes",
}
"""What came after 5.18, when the tree began; of 6.1 none is there."""

KEYWORDS = {
    "operations": {"vaddr", "fvaddr", "paddr"},
    "action": {
        "willneed",
        "cold",
        "pageout",
        "hugepage",
        "nohugepage",
        "collapse",
        "lru_prio",
        "lru_deprio",
        "migrate_hot",
        "migrate_cold",
        "stat",
    },
    "metric": {"none", "free_mem_rate"},
    "matching": {"Y", "N"},
    "allow": {"Y", "N"},
    "pause": {"Y", "N"},
    "obsolete_target": {"Y", "N"},
    "goal_tuner": {"consist", "temporal"},
    "type": {"addr", "target", "anon", "memcg", "young", "active", "hugepage_size", "unmapped"},
}
COUNTS = {
    "nr_kdamonds",
    "nr_contexts",
    "nr_targets",
    "nr_regions",
    "nr_schemes",
    "nr_goals",
    "nr_filters",
    "nr_dests",
}
READ_ONLY = {"pid", "avail_operations", "effective_bytes", "total_bytes"}
TEXT = {"path", "memcg_path", "target_metric", "state"}


class FakeKernel:
    """The tree, and what it was told.

    Attributes:
        commands: Everything written to a state file that was not refused.
        busy: Writes to state files that are still to be refused as busy.
        regions: Rows of what the next snapshot shows: start, end, accesses, age.
        statistics: What all schemes did, but for those that have statistics of their own.
        own_statistics: The statistics of single schemes, by their numbers.
        tuned: Sampling and aggregation interval that tuning comes to; None: those that were set.
        live_processes: Processes that can be monitored.
    """

    def __init__(self, root, features=frozenset(FEATURES), live_processes=(1,)):
        self.root, self.features = root, set(features)
        self.commands, self.busy, self.regions, self.live_processes = [], 0, [], set(live_processes)
        self.statistics = {"nr_tried": 1, "sz_tried": 2, "nr_applied": 3, "sz_applied": 4, "qt_exceeds": 5}
        self.own_statistics = {}
        self.tuned = (20_000, 400_000)
        self.targets = 0
        self.on = set()
        self._put("kdamonds/nr_kdamonds", 0)

    def install(self, monkeypatch):
        """Answer every write below the root."""
        kernel, original = self, type(self.root).write_text

        def write_text(path, text, *arguments, **options):
            if kernel.root in path.parents:
                return kernel.write(path.relative_to(kernel.root).as_posix(), text)
            return original(path, text, *arguments, **options)

        self._write_text = original
        monkeypatch.setattr(type(self.root), "write_text", write_text)

    def read(self, path):
        return (self.root / path).read_text().strip()

    def write(self, path, text):
        """Answer a write to a file."""
        file = self.root / path
        if not file.exists():
            raise OSError(errno.ENOENT, "No such file or directory")
        name = file.name
        if name in READ_ONLY or ("stats" in file.parts and name != "max_nr_snapshots"):
            raise OSError(errno.EACCES, "Permission denied")
        if name == "state":
            self._command(path, text)
        elif name in KEYWORDS:
            self._refuse_unless(text in KEYWORDS[name])
        elif name not in TEXT:
            self._refuse_unless(text.lstrip("-").isdigit())
        if name in COUNTS:
            self._resize(path, int(text))
        if name != "state":
            self._set(path, text)
        return len(text)

    def _command(self, path, text):
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, "Device or resource busy")
        kdamond = path.split("/")[1]
        running = kdamond in self.on
        if text == "on":
            if running:
                raise OSError(errno.EBUSY, "Device or resource busy")
            self._check(kdamond)
            self.on.add(kdamond)
        elif text == "off":
            self._refuse_unless(running)
            self.on.discard(kdamond)
        else:
            self._refuse_unless(running)
            if text == "commit":
                self._check(kdamond)
            self._answer(kdamond, text)
        self.commands.append(text)
        self._set(f"kdamonds/{kdamond}/state", "on" if kdamond in self.on else "off")
        self._set(f"kdamonds/{kdamond}/pid", 42 if kdamond in self.on else -1)

    def _check(self, kdamond):
        context = f"kdamonds/{kdamond}/contexts/0"
        limits = [int(self.read(f"{context}/monitoring_attrs/nr_regions/{end}")) for end in ("min", "max")]
        intervals = [int(self.read(f"{context}/monitoring_attrs/intervals/{name}_us")) for name in ("sample", "aggr")]
        self._refuse_unless(3 <= limits[0] <= limits[1] and intervals[0] <= intervals[1])
        count = int(self.read(f"{context}/targets/nr_targets"))
        if self.read(f"{context}/operations") != "paddr":
            for target in range(count):
                self._refuse_unless(int(self.read(f"{context}/targets/{target}/pid_target")) in self.live_processes)
        self.targets = count

    def _answer(self, kdamond, command):
        context = f"kdamonds/{kdamond}/contexts/0"
        count = int(self.read(f"{context}/schemes/nr_schemes"))
        for scheme in range(count):
            folder = f"{context}/schemes/{scheme}"
            if command == "update_schemes_tried_regions":
                shutil.rmtree(self.root / folder / "tried_regions")
                for number, row in enumerate(self.regions):
                    for name, value in zip(("start", "end", "nr_accesses", "age"), row, strict=True):
                        self._put(f"{folder}/tried_regions/{number}/{name}", value)
                    self._put(f"{folder}/tried_regions/{number}/sz_filter_passed", 5, "sz_ops_filter_passed")
                total = sum(row[1] - row[0] for row in self.regions)
                self._put(f"{folder}/tried_regions/total_bytes", total, "total_bytes")
            elif command == "update_schemes_stats":
                for name, value in self.own_statistics.get(scheme, self.statistics).items():
                    self._set(f"{folder}/stats/{name}", value)
            elif command == "update_schemes_effective_quotas":
                self._set(f"{folder}/quotas/effective_bytes", 4096)
            elif command == "clear_schemes_tried_regions":
                shutil.rmtree(self.root / folder / "tried_regions")
                (self.root / folder / "tried_regions").mkdir()
        if command == "update_tuned_intervals" and self.tuned is not None:
            for name, value in zip(("sample_us", "aggr_us"), self.tuned, strict=True):
                self._set(f"{context}/monitoring_attrs/intervals/{name}", value)

    def _resize(self, path, count):
        file = self.root / path
        self._refuse_unless(count >= 0 and (file.name != "nr_contexts" or count <= 1))
        if file.name == "nr_kdamonds" and self.on:
            raise OSError(errno.EBUSY, "Device or resource busy")
        for child in file.parent.iterdir():
            if child.name.isdigit():
                shutil.rmtree(child)
        makers = {
            "nr_kdamonds": self._kdamond,
            "nr_contexts": self._context,
            "nr_targets": self._target,
            "nr_regions": lambda folder: self._files(folder, start=0, end=0),
            "nr_schemes": self._scheme,
            "nr_goals": self._goal,
            "nr_filters": self._filter,
            "nr_dests": lambda folder: self._files(folder, id=0, weight=0),
        }
        for number in range(count):
            makers[file.name](f"{file.parent.relative_to(self.root).as_posix()}/{number}")

    def _kdamond(self, folder):
        self._files(folder, state="off", pid=-1)
        self._put(f"{folder}/refresh_ms", 0, "refresh_ms")
        self._put(f"{folder}/contexts/nr_contexts", 0)

    def _context(self, folder):
        self._files(folder, operations="vaddr", avail_operations="vaddr\nfvaddr\npaddr")
        self._put(f"{folder}/addr_unit", 1, "addr_unit")
        self._put(f"{folder}/pause", "N", "pause")
        self._files(f"{folder}/monitoring_attrs/intervals", sample_us=5000, aggr_us=100000, update_us=60000000)
        for name in ("access_bp", "aggrs", "min_sample_us", "max_sample_us"):
            self._put(f"{folder}/monitoring_attrs/intervals/intervals_goal/{name}", 0, "intervals_goal")
        self._files(f"{folder}/monitoring_attrs/nr_regions", min=10, max=1000)
        self._files(f"{folder}/targets", nr_targets=0)
        self._files(f"{folder}/schemes", nr_schemes=0)

    def _target(self, folder):
        self._files(folder, pid_target=0)
        self._put(f"{folder}/obsolete_target", "N", "obsolete_target")
        self._files(f"{folder}/regions", nr_regions=0)

    def _scheme(self, folder):
        self._files(folder, action="stat")
        self._put(f"{folder}/target_nid", -1, "target_nid")
        self._put(f"{folder}/apply_interval_us", 0, "apply_interval_us")
        for name in ("sz", "nr_accesses", "age"):
            self._files(f"{folder}/access_pattern/{name}", min=0, max=0)
        self._files(f"{folder}/quotas", ms=0, bytes=0, reset_interval_ms=0)
        self._put(f"{folder}/quotas/effective_bytes", 0, "effective_bytes")
        self._put(f"{folder}/quotas/goal_tuner", "consist", "goal_tuner")
        for name in ("fail_charge_num", "fail_charge_denom"):
            self._put(f"{folder}/quotas/{name}", 0, "fail_charge")
        self._files(f"{folder}/quotas/weights", sz_permil=0, nr_accesses_permil=0, age_permil=0)
        self._put(f"{folder}/quotas/goals/nr_goals", 0, "goals")
        self._files(f"{folder}/watermarks", metric="none", interval_us=0, high=0, mid=0, low=0)
        self._put(f"{folder}/filters/nr_filters", 0, "filters")
        for name in ("core_filters", "ops_filters"):
            self._put(f"{folder}/{name}/nr_filters", 0, "core_filters")
        self._put(f"{folder}/dests/nr_dests", 0, "dests")
        self._files(f"{folder}/stats", nr_tried=0, sz_tried=0, nr_applied=0, sz_applied=0, qt_exceeds=0)
        self._put(f"{folder}/stats/sz_ops_filter_passed", 0, "sz_ops_filter_passed")
        for name in ("nr_snapshots", "max_nr_snapshots"):
            self._put(f"{folder}/stats/{name}", 0, "nr_snapshots")
        self._put(f"{folder}/tried_regions/total_bytes", 0, "total_bytes")

    def _goal(self, folder):
        self._files(folder, target_value=0, current_value=0)
        self._put(f"{folder}/target_metric", "user_input", "target_metric")
        self._put(f"{folder}/nid", 0, "nid")
        self._put(f"{folder}/path", "", "path")

    def _filter(self, folder):
        self._files(folder, type="anon", matching="N", memcg_path="", addr_start=0, addr_end=0, min=0, max=0)
        self._files(folder, damon_target_idx=0)
        self._put(f"{folder}/allow", "N", "allow")

    def _files(self, folder, **values):
        for name, value in values.items():
            self._put(f"{folder}/{name}", value)

    def _put(self, path, value, feature=None):
        if feature is None or feature in self.features:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            self._set(path, value)

    def _set(self, path, value):
        with open(self.root / path, "w") as file:
            file.write(f"{value}\n")

    @staticmethod
    def _refuse_unless(condition):
        if not condition:
            raise OSError(errno.EINVAL, "Invalid argument")
