"""A trained agent drives the files of a kernel: what is written, what is not, and how it ends."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from damon_programs import begun, make_tier
from fake_kernel import FakeKernel
from fake_proc import FakeProc
from hypothesis import given, settings
from hypothesis import strategies as st

import agents.driving
from agents.__main__ import main, parser
from agents.driving import DrivingOptions, drive, is_this_kernel
from agents.shipped import load_agent
from kml_envs.damon import tier_settings
from kml_envs.damon.config import Action, MonitoringAttributes
from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.damon.monitor_settings import recommended_attributes
from kml_envs.damon.reclaim_settings import builtin_context, recommended_scheme
from kml_envs.damon.sysfs import SysfsDamon
from kml_envs.envs.damon_kernel import Kernel, KernelTier
from kml_envs.envs.damon_monitor import MonitorArguments
from kml_envs.envs.damon_reclaim import ReclaimArguments
from kml_envs.envs.damon_tier import TierArguments
from kml_envs.errors import UserError

PID, GIB = 7, 1 << 30
CONTEXT = "kdamonds/0/contexts/0"
REGIONS = [(GIB + (number << 25), GIB + (number + 1 << 25), number % 3, number * 7) for number in range(32)]


class Machine:
    """A kernel's files and the time of whoever drives it.

    Attributes:
        held: Files' contents by name at the end of each interval.
        happens: Called at the end of each interval.
    """

    def __init__(self, folder, monkeypatch):
        (folder / "damon").mkdir()
        self.kernel = FakeKernel(folder / "damon", live_processes=(PID,))
        self.kernel.install(monkeypatch)
        self.kernel.tuned, self.kernel.regions = None, REGIONS
        self.proc = FakeProc(folder / "proc")
        self.proc.process(PID, GIB, 0)
        self.now, self.held = 50.0, []
        self.happens = lambda: None

    def options(self, agent, **given):
        return DrivingOptions(
            **{"agent": agent, "root": self.kernel.root, "proc": self.proc.root, "pid": PID, "quiet": True, **given}
        )

    def drive(self, options):
        return drive(options, self.sleep, lambda: self.now)

    def sleep(self, seconds):
        self.now += seconds
        self.held.append(
            {
                path.relative_to(self.kernel.root / CONTEXT).as_posix(): path.read_text().strip()
                for path in (self.kernel.root / CONTEXT).rglob("*")
                if path.is_file()
            }
        )
        self.proc.kdamond(round(self.now * 1e6))
        self.happens()

    def tiers(self, *others, fast=0, slow=1):
        """Let there be two nodes of memory, from 1 GiB and from 2 GiB on, and others."""
        low, high = [(GIB, GIB, GIB)], [(2 * GIB, 2 * GIB, 2 * GIB)]
        self.proc.nodes((fast, low, GIB // 4), (slow, high, GIB), *others)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


class Watched:
    """A model whose actions are kept, or replaced."""

    def __init__(self, model, actions=()):
        self.model, self.actions, self.kept, self.seen = model, list(actions), [], []

    def predict(self, observation, deterministic):
        assert deterministic
        action, state = self.model.predict(observation, deterministic=True)
        action = np.array(self.actions.pop(0), np.float32) if self.actions else action
        self.kept.append(action)
        self.seen.append(observation)
        return action, state


def watched(monkeypatch, name, actions=()):
    loaded = load_agent(name)
    model = Watched(loaded.model, actions)
    monkeypatch.setattr(agents.driving, "load_agent", lambda agent: replace(loaded, model=model))
    return model


def scheme_files(scheme):
    """What the files of a scheme of reclaim must hold."""
    pattern, quota, marks = scheme.access_pattern, scheme.quotas, scheme.watermarks
    return {
        "action": scheme.action.value,
        "access_pattern/nr_accesses/max": str(pattern.max_nr_accesses),
        "access_pattern/age/min": str(pattern.min_age),
        "quotas/bytes": str(quota.bytes),
        "quotas/ms": str(quota.ms),
        "quotas/reset_interval_ms": str(quota.reset_interval_ms),
        "quotas/weights/nr_accesses_permil": str(quota.weights.nr_accesses_permil),
        "quotas/weights/age_permil": str(quota.weights.age_permil),
        "watermarks/metric": marks.metric.value,
        "watermarks/mid": str(marks.mid),
        "watermarks/low": str(marks.low),
    }


def acting(held):
    return {name.removeprefix("schemes/0/"): value for name, value in held.items() if name.startswith("schemes/0/")}


def test_a_shipped_agent_drives_reclaim(machine, monkeypatch):
    model = watched(monkeypatch, "damon-reclaim")
    assert machine.drive(machine.options("damon-reclaim", steps=5)) == 0
    assert len(model.kept) == 5
    assert len(machine.held) == 6
    attributes = ReclaimArguments().attributes()
    shipped = builtin_context("damon_reclaim", attributes).schemes[0]
    wanted = [shipped, *(recommended_scheme(action, GIB, attributes) for action in model.kept)]
    for held, scheme in zip(machine.held, wanted, strict=True):
        assert scheme_files(scheme).items() <= acting(held).items()
        assert held["operations"] == "vaddr"
        assert held["targets/0/pid_target"] == str(PID)
        assert held["monitoring_attrs/intervals/sample_us"] == "200000"
        assert held["monitoring_attrs/nr_regions/min"] == "400"
        assert held["schemes/1/action"] == "stat"
    assert model.seen[0].shape == (38,)
    assert (model.seen[1][-6:] != 0.5).any()  # the settings in force are the agent's
    assert machine.kernel.commands[0] == "on"
    assert machine.kernel.commands[-1] == "off"
    assert machine.kernel.commands.count("commit") <= 5


def test_all_of_memory_is_aimed_at_without_a_process(machine, monkeypatch):
    watched(monkeypatch, "damon-reclaim")
    machine.drive(machine.options("damon-reclaim", steps=1, pid=None))
    held = machine.held[-1]
    assert held["operations"] == "paddr"
    assert [held[f"targets/0/regions/{number}/end"] for number in (0, 1)] == [str(0xA0000), str(0x40000000)]


def test_a_harmful_recommendation_is_not_written(machine, monkeypatch, capsys):
    no_quota = [0.0, -1.0, 0.0, 0.0, 0.0, 0.0]
    not_finite = [np.nan, 0.0, 0.0, 0.0, 0.0, 0.0]
    good = [0.0, 0.0, 0.0, 0.5, 0.9, 0.0]
    watched(monkeypatch, "damon-reclaim", [no_quota, good, no_quota, not_finite])
    machine.drive(machine.options("damon-reclaim", steps=4, quiet=False))
    attributes = ReclaimArguments().attributes()
    shipped = builtin_context("damon_reclaim", attributes).schemes[0]
    agents_own = recommended_scheme(np.array(good, np.float32), GIB, attributes)
    for held, scheme in zip(machine.held, [shipped, shipped, agents_own, shipped, shipped], strict=True):
        assert scheme_files(scheme).items() <= acting(held).items()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 5
    assert "built-in (pageout_without_quota)" in told[1]
    assert "agent: pageout after" in told[2]
    assert "built-in (not_finite)" in told[4]


def test_the_agent_is_not_asked_when_memory_is_short(machine, monkeypatch):
    model = watched(monkeypatch, "damon-reclaim")
    begun = []

    def happens():
        begun.append(None)
        machine.proc.machine(8 * GIB, GIB if len(begun) != 3 else 1 << 20)

    machine.happens = happens
    machine.drive(machine.options("damon-reclaim", steps=4))
    assert len(model.kept) == 3
    attributes = ReclaimArguments().attributes()
    shipped = builtin_context("damon_reclaim", attributes).schemes[0]
    assert scheme_files(shipped).items() <= acting(machine.held[3]).items()


def test_a_shipped_agent_drives_the_monitor(machine, monkeypatch):
    too_few = [0.0, -1.0, 0.0, 1.0]
    model = watched(monkeypatch, "damon-monitor", [[0.1, 0.0, 0.5, 1.0], [0.15, 0.0, 0.5, 1.0], too_few])
    machine.drive(machine.options("damon-monitor", steps=4))
    room = MonitorArguments(**load_agent("damon-monitor").env_kwargs).region_room()
    held = [
        MonitoringAttributes(
            *(int(files[f"monitoring_attrs/intervals/{name}_us"]) for name in ("sample", "aggr", "update")),
            min_nr_regions=int(files["monitoring_attrs/nr_regions/min"]),
            max_nr_regions=int(files["monitoring_attrs/nr_regions/max"]),
        )
        for files in machine.held
    ]
    first = recommended_attributes(np.array(model.kept[0]), room)
    assert held[1] == held[2] == first  # a recommendation near what is in force changes nothing
    tuned = machine.held[3]
    assert tuned["monitoring_attrs/intervals/intervals_goal/aggrs"] == "3"
    assert held[3].sample_us == first.sample_us  # from which the kernel's tuning goes on
    assert held[4] == recommended_attributes(np.array(model.kept[3]), room)
    assert machine.held[4]["monitoring_attrs/intervals/intervals_goal/aggrs"] == "0"
    assert machine.held[4]["schemes/nr_schemes"] == "1"
    assert model.seen[0].shape == (31,)
    assert machine.kernel.commands[-1] == "off"


def migrating(held, number):
    """What the files of a scheme of tiering hold."""
    names = ("action", "target_nid", "quotas/bytes", "access_pattern/nr_accesses/min", "access_pattern/nr_accesses/max")
    names = (*names, "access_pattern/age/min", "quotas/goals/nr_goals")
    return [held[f"schemes/{number}/{name}"] for name in names]


def wanted_files(scheme, target_nid):
    pattern = scheme.access_pattern
    numbers = (target_nid, scheme.quotas.bytes, pattern.min_nr_accesses, pattern.max_nr_accesses, pattern.min_age)
    return [scheme.action.value, *map(str, numbers), str(len(scheme.quotas.goals))]


@pytest.mark.parametrize("nodes", [None, (0, 1), (3, 0)])
def test_a_shipped_agent_drives_tiering(machine, monkeypatch, capsys, nodes):
    no_quota = [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]
    crossed = [-1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    model = watched(monkeypatch, "damon-tier", [[0.1] * 7, no_quota, crossed])
    fast, slow = nodes or (0, 1)
    machine.tiers(fast=fast, slow=slow)
    assert machine.drive(machine.options("damon-tier", pid=None, nodes=nodes, steps=4, quiet=False)) == 0
    arguments = TierArguments(**load_agent("damon-tier").env_kwargs)
    shipped = tier_settings.builtin_context(arguments.builtin, arguments.attributes())
    own = [tier_settings.recommended_context(action, arguments.attributes()) for action in model.kept]
    for held, context in zip(machine.held, [shipped, own[0], shipped, shipped, own[3]], strict=True):
        assert held["operations"] == "paddr"
        ranges = [held[f"targets/0/regions/{number}/{end}"] for number in (0, 1) for end in ("start", "end")]
        assert ranges == [str(GIB), str(2 * GIB), str(2 * GIB), str(4 * GIB)]
        assert held["schemes/nr_schemes"] == "3"
        demote, promote = context.schemes
        assert migrating(held, 0) == wanted_files(demote, slow)
        assert migrating(held, 1) == wanted_files(promote, fast)
        assert held["schemes/0/quotas/goals/0/nid"] == str(fast)
        assert (held["schemes/2/action"], held["schemes/2/target_nid"]) == ("stat", "-1")
        tuned = context.monitoring_attrs.intervals_goal.aggrs
        assert held["monitoring_attrs/intervals/intervals_goal/aggrs"] == str(tuned)
    assert model.seen[0].shape == (41,)
    assert (model.seen[0][-7:] == 0.5).all()
    assert model.seen[1][-7:] == pytest.approx(0.55)
    told = capsys.readouterr().out.splitlines()
    assert f"agent: migrate_cold to node {slow} after" in told[1]
    assert f"; migrate_hot to node {fast} after" in told[1]
    assert "built-in (migration_without_quota)" in told[2]
    assert "built-in (migration_thresholds_crossed)" in told[3]
    assert machine.kernel.commands[-1] == "off"


@pytest.mark.parametrize("builtin", tier_settings.BUILTINS)
def test_every_builtin_algorithm_of_tiering_can_begin(machine, monkeypatch, builtin):
    watched(monkeypatch, "damon-tier")
    machine.tiers()
    assert machine.drive(machine.options("damon-tier", pid=None, steps=1, builtin=builtin)) == 0
    actions = [machine.held[0][f"schemes/{number}/action"] for number in range(3)]
    moving = [Action.MIGRATE_COLD.value, Action.MIGRATE_HOT.value]
    assert actions == (["stat"] * 3 if builtin == tier_settings.STATIC else [*moving, "stat"])


def test_a_kernel_without_the_temporal_tuner_ends_the_drive(machine, monkeypatch):
    machine.kernel.features.discard("goal_tuner")
    watched(monkeypatch, "damon-tier")
    machine.tiers()
    with pytest.raises(UserError, match="goal_tuner: this kernel does not have it"):
        machine.drive(machine.options("damon-tier", pid=None, steps=2))
    assert machine.kernel.commands[-1] == "off"


@pytest.fixture(scope="module", params=[(0, 1), (5, 2)], ids=["usual nodes", "other nodes"])
def real_and_simulated(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(tmp_path_factory.mktemp("machine"), monkeypatch)
        machine.tiers(fast=request.param[0], slow=request.param[1])
        kernel = Kernel(SysfsDamon(machine.kernel.root), KernelFiles(machine.proc.root), nodes=request.param)
        yield KernelTier(kernel, TierArguments()), begun(make_tier())


NUMBERS = st.one_of(st.floats(-1.0, 1.0, width=32), st.sampled_from([-1.0, 1.0]))


@given(action=st.lists(NUMBERS, min_size=7, max_size=7))
@settings(deadline=None)
def test_verdicts_on_tiering_are_those_of_the_simulated_kernel(real_and_simulated, action):
    real, simulated = real_and_simulated
    assert real.check(np.array(action)) == simulated.check(np.array([action]))[0]


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """A closing terminal ends programs there, whoever has started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_turns_monitoring_off(machine, monkeypatch, number, status):
    watched(monkeypatch, "damon-reclaim")
    machine.happens = lambda: os.kill(os.getpid(), number) if len(machine.held) == 3 else None
    assert machine.drive(machine.options("damon-reclaim")) == status
    assert machine.kernel.commands[-1] == "off"


def test_who_asks_twice_does_not_leave_monitoring_on(machine, monkeypatch):
    watched(monkeypatch, "damon-reclaim")
    turn_off = SysfsDamon.turn_off

    def interrupted(damon):
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        turn_off(damon)

    monkeypatch.setattr(SysfsDamon, "turn_off", interrupted)
    machine.happens = lambda: os.kill(os.getpid(), signal.SIGINT) if len(machine.held) == 3 else None
    before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    assert machine.drive(machine.options("damon-reclaim")) == 130
    assert machine.kernel.commands[-1] == "off"
    assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)] == before


def test_a_terminal_that_closes_is_no_matter_under_nohup(machine, monkeypatch):
    watched(monkeypatch, "damon-reclaim")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        machine.happens = lambda: os.kill(os.getpid(), signal.SIGHUP)
        assert machine.drive(machine.options("damon-reclaim", steps=2)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_name_that_is_no_text_does_not_end_the_drive(machine, monkeypatch):
    watched(monkeypatch, "damon-reclaim")
    status = machine.proc.root / f"{PID}/status"
    machine.happens = lambda: status.write_bytes(status.read_bytes().replace(b"a program", b"pr\xfcfer"))
    assert machine.drive(machine.options("damon-reclaim", steps=2)) == 0


def test_a_kernel_that_stops_ends_the_drive(machine, monkeypatch):
    watched(monkeypatch, "damon-reclaim")
    machine.happens = lambda: machine.kernel.write("kdamonds/0/state", "off") if len(machine.held) == 2 else None
    with pytest.raises(UserError, match="has the process ended"):
        machine.drive(machine.options("damon-reclaim"))
    assert machine.kernel.commands.count("off") == 1


def test_somebody_elses_kdamond_is_left_alone(machine, monkeypatch):
    watched(monkeypatch, "damon-reclaim")
    machine.drive(machine.options("damon-reclaim", steps=1))
    machine.kernel.write("kdamonds/0/state", "on")
    before = list(machine.kernel.commands)
    with pytest.raises(UserError, match="is on: turn it off first"):
        machine.drive(machine.options("damon-reclaim", steps=1))
    assert machine.kernel.commands == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"agent": "lfs-tune"}, "trained on kml/LfsTune-v0: accepted are kml/DamonMonitor-v0"),
        ({"agent": "damon-tier"}, "--pid 7: tiering works on physical memory"),
        ({"agent": "damon-tier", "pid": None}, "zoneinfo: cannot be read"),
        ({"nodes": (0, 1)}, "--nodes 0 1: agents of kml/DamonTier-v0"),
        ({"agent": "damon-monitor", "nodes": (0, 1)}, "--nodes 0 1: agents of kml/DamonTier-v0"),
        ({"agent": "nobody"}, "unknown shipped agent 'nobody'"),
        ({"interval": float("nan")}, "--interval nan"),
        ({"interval": 0.0}, "--interval 0.0"),
        ({"interval": 1e300}, "--interval 1e.300"),
        ({"steps": 2**54}, "must be at most"),
        ({"kdamond": -1}, "kdamond -1: must not be negative"),
        ({"agent": "x" * 5000}, "unknown shipped agent"),
        ({"interval": 0.5}, "must hold at least one aggregation"),
        ({"builtin": "senpai"}, "is a program, no scheme"),
        ({"builtin": "prlc"}, "Did you mean 'prcl'"),
        ({"pid": 99}, "99/status: cannot be read"),
    ],
)
def test_mistakes_are_told_before_monitoring_begins(machine, given, said):
    with pytest.raises(UserError, match=said) as error:
        machine.drive(machine.options(**{"agent": "damon-reclaim", "steps": 1, **given}))
    assert "\n" not in str(error.value)
    assert machine.kernel.commands == []


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((1, 1), "--nodes 1 1: must be two different nodes"),
        ((0, 3), "node 3: not there; nodes of the machine: 0, 1, 2"),
        ((-1, 0), "node -1: not there"),
        ((2, 0), "node 2: has no memory"),
    ],
)
def test_nodes_that_cannot_be_tiers_are_refused_before_anything_is_written(machine, nodes, said):
    machine.tiers((2, [], 0))
    with pytest.raises(UserError, match=said) as error:
        machine.drive(machine.options("damon-tier", pid=None, nodes=nodes))
    assert "\n" not in str(error.value)
    assert machine.kernel.read("kdamonds/nr_kdamonds") == "0"


def test_nodes_are_two_numbers_of_the_command_line():
    values = vars(parser().parse_args(["drive", "damon-tier", "--nodes", "2", "0"]))
    assert values["nodes"] == [2, 0]


def test_the_kernel_that_this_runs_on_is_left_alone(tmp_path, monkeypatch, capsys):
    link = tmp_path / "admin"
    link.symlink_to("/sys/kernel/mm/damon/admin")
    assert is_this_kernel(link)
    assert is_this_kernel(link / ".." / "admin")
    assert not is_this_kernel(tmp_path)
    for arguments in (["--root", str(link)], []):
        monkeypatch.setattr("sys.argv", ["agents", "drive", "damon-reclaim", "--steps", "1", *arguments])
        with pytest.raises(UserError, match="only with --this-kernel"):
            main()


def test_help_says_what_is_written(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["agents", "drive", "--help"])
    with pytest.raises(SystemExit):
        main()
    told = " ".join(capsys.readouterr().out.split())
    for word in ("nr_kdamonds", "state", "turned off", "--this-kernel", "page memory out", "migrate memory"):
        assert word in told
