"""A trained agent drives the DAMON of a real kernel: look, ask the model, check, write; again every interval.

What it turns on it turns off when it ends. A refused recommendation leaves the built-in settings in force, and so does
a kernel that is short of memory: then the agent is not asked.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from agents.damon_environments import MONITOR, RECLAIM, TIER
from agents.loading import LoadedModel, load_model
from agents.shipped import load_agent, shipped_names
from kml_envs.damon.config import Action, Context, MonitoringAttributes, Scheme
from kml_envs.damon.kernel_files import PROC, KernelFiles
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.sysfs import ADMIN, SysfsDamon
from kml_envs.envs.damon_kernel import Kernel, KernelMonitor, KernelReclaim, KernelSubsystem, KernelTier
from kml_envs.envs.damon_monitor import MonitorArguments
from kml_envs.envs.damon_reclaim import ReclaimArguments
from kml_envs.envs.damon_tier import TierArguments
from kml_envs.envs.proxy_env import ProxyEnv
from kml_envs.errors import UserError
from kml_envs.proxy import ProxyOptions, Verdict, batch
from kml_envs.proxy.options import MOST_PROGRESS

_LONGEST_INTERVAL_S = 86_400
_INTERRUPTED = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class DrivingOptions:
    """What a drive is asked for.

    Attributes:
        agent: Name of a shipped agent, or a run folder.
        root: The folder `admin` of DAMON.
        proc: The folder `proc`.
        pid: The process whose memory is watched and managed; None: all physical memory.
        nodes: The fast and the slow memory node, for agents of tiering only; None: 0 and 1.
        kdamond: Number of the kdamond.
        interval: Seconds of a control interval; None: those that the agent was trained with.
        steps: Intervals; None: until it is interrupted.
        builtin: Built-in algorithm; None: the one that the agent was trained with.
        this_kernel: Whether `root` may be that of the kernel that this runs on.
        quiet: Whether to say nothing.
    """

    agent: str
    root: Path = ADMIN
    proc: Path = PROC
    pid: int | None = None
    nodes: tuple[int, int] | None = None
    kdamond: int = 0
    interval: float | None = None
    steps: int | None = None
    builtin: str | None = None
    this_kernel: bool = False
    quiet: bool = False


def drive(
    options: DrivingOptions,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Drive until the steps are done, or SIGHUP, SIGINT or SIGTERM.

    Args:
        options: What is asked for.
        sleep: Waits for some seconds.
        clock: Gives the time in seconds.

    Returns:
        The exit status: 0, 129 after SIGHUP, 130 after SIGINT, 143 after SIGTERM.

    Raises:
        UserError: The options are wrong, the agent cannot do it, or the kernel refuses.
    """
    torch.set_num_threads(1)
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps {options.steps}: must be at least 1")
    # More than a clock can wait for would be told only when monitoring has begun.
    if options.interval is not None and not 0 < options.interval <= _LONGEST_INTERVAL_S:
        raise UserError(f"--interval {options.interval}: must be a number of seconds, at most {_LONGEST_INTERVAL_S}")
    if is_this_kernel(options.root) and not options.this_kernel:
        raise UserError(
            f"--root {options.root}: is the DAMON of the kernel that this runs on, whose settings would be changed: "
            "only with --this-kernel"
        )
    # Before the kernel's files are looked at, which makes a kdamond where there is none.
    proxy = ProxyOptions(episode_progress=options.steps or MOST_PROGRESS, mode="recommendation", efficiency="none")
    loaded = _load(options.agent)
    files = KernelFiles(options.proc)
    files.machine()
    nodes = _nodes(options, loaded, files)
    if options.pid is not None:
        files.process(options.pid)
    damon = SysfsDamon(options.root, options.kdamond, sleep)
    subsystem = _subsystem(options, loaded, Kernel(damon, files, options.pid, nodes, clock, sleep))
    environment = ProxyEnv(partial(batch, lambda: subsystem), proxy)
    say: Callable[[str], None] = (lambda text: None) if options.quiet else partial(print, flush=True)
    try:
        with _signals_as_exceptions(), _turned_off(damon):
            _steps(environment, subsystem, loaded.model, say)
    except _Interrupted as interrupted:
        return _INTERRUPTED[interrupted.number]
    finally:
        environment.close()
    return 0


def is_this_kernel(root: Path) -> bool:
    """Whether a folder is in the sysfs of the kernel that this runs on, by whatever path."""
    here = root.resolve()
    if here.is_relative_to("/sys"):
        return True
    mounted = os.path.ismount("/sys") and here.exists()
    return mounted and here.stat().st_dev == os.stat("/sys").st_dev


def describe_settings(context: Context) -> str:
    """The settings of a context in a few words."""
    attributes = context.monitoring_attrs
    acting = [scheme for scheme in context.schemes if scheme.action is not Action.STAT]
    if not acting:
        tuned = " at first, tuned by the kernel" if attributes.intervals_goal.aggrs else ""
        return (
            f"{attributes.max_nr_accesses} samples of {attributes.sample_us / 1000:g} ms{tuned}, "
            f"{attributes.min_nr_regions} to {attributes.max_nr_regions} regions"
        )
    return "; ".join(_describe_scheme(scheme, attributes) for scheme in acting)


def _describe_scheme(scheme: Scheme, attributes: MonitoringAttributes) -> str:
    pattern, quota, marks = scheme.access_pattern, scheme.quotas, scheme.watermarks
    limits = [f"{quota.bytes / (1 << 20):.1f} MiB"] * bool(quota.bytes) + [f"{quota.ms} ms"] * bool(quota.ms)
    limits += [f"as {goal.target_metric.value} allows" for goal in quota.goals]
    after = f"after {pattern.min_age * attributes.aggr_us / 1e6:g} s"
    limit = f"at most {' and '.join(limits) or 'everything'} in {quota.reset_interval_ms} ms"
    if scheme.target_nid < 0:
        return f"{scheme.action.value} {after}, {limit}, watermarks {marks.high}/{marks.mid}/{marks.low}"
    hot = scheme.action is Action.MIGRATE_HOT
    found = f"at least {pattern.min_nr_accesses}" if hot else f"at most {pattern.max_nr_accesses}"
    samples = f"{found} of {attributes.max_nr_accesses} samples"
    return f"{scheme.action.value} to node {scheme.target_nid} {after} of {samples}, {limit}"


def _load(agent: str) -> LoadedModel:
    if agent.partition(":")[0] in shipped_names() or not os.path.exists(agent):
        return load_agent(agent)
    return load_model(Path(agent))


def _subsystem(options: DrivingOptions, loaded: LoadedModel, kernel: Kernel) -> KernelSubsystem:
    given = {"interval_s": options.interval, "builtin": options.builtin}
    replaced: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if loaded.env_id == RECLAIM:
        return KernelReclaim(kernel, replace(ReclaimArguments(**loaded.env_kwargs), **replaced))
    if loaded.env_id == MONITOR:
        return KernelMonitor(kernel, replace(MonitorArguments(**loaded.env_kwargs), **replaced))
    return KernelTier(kernel, replace(TierArguments(**loaded.env_kwargs), **replaced))


def _nodes(options: DrivingOptions, loaded: LoadedModel, files: KernelFiles) -> tuple[int, int]:
    """The fast and the slow node, if the agent's environment has a use for what is asked for."""
    if loaded.env_id not in (MONITOR, RECLAIM, TIER):
        accepted = f"{MONITOR}, {RECLAIM} and {TIER}"
        raise UserError(f"agent '{options.agent}' was trained on {loaded.env_id}: accepted are {accepted}")
    fast, slow = options.nodes or (FAST_NODE, SLOW_NODE)
    if loaded.env_id != TIER:
        if options.nodes is not None:
            raise UserError(
                f"--nodes {fast} {slow}: agents of {TIER} alone take it, and this one is of {loaded.env_id}"
            )
        return fast, slow
    if options.pid is not None:
        raise UserError(f"--pid {options.pid}: tiering works on physical memory, whose addresses tell the node")
    if fast == slow:
        raise UserError(f"--nodes {fast} {slow}: must be two different nodes, the fast one first")
    files.node_ranges((fast, slow))
    return fast, slow


def _steps(environment: ProxyEnv, subsystem: KernelSubsystem, model: Any, say: Callable[[str], None]) -> None:  # noqa: ANN401
    """Begin, and ask for every interval's settings until there are no more."""
    observation, _ = environment.reset(seed=0)
    say(f"begun by the built-in algorithm: {describe_settings(subsystem.in_force)}")
    finished = environment.proxy.finished[0]
    while not finished:
        action, _ = model.predict(observation, deterministic=True)
        observation, _, _, finished, info = environment.step(action)
        whose = "agent" if info["acted_by_agent"] else f"built-in ({Verdict(info['verdict']).name.lower()})"
        say(f"interval {subsystem.progress()}: {whose}: {describe_settings(subsystem.in_force)}")


@contextmanager
def _turned_off(damon: SysfsDamon) -> Iterator[None]:
    """Turn a kdamond off in the end, if it was off before and is on then."""
    was_on = damon.is_on()
    try:
        yield
    finally:
        for number in _INTERRUPTED:  # whoever asks twice is not to stop this
            signal.signal(number, signal.SIG_IGN)
        if not was_on and damon.is_on():
            damon.turn_off()


class _Interrupted(BaseException):
    """A signal asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Raise `_Interrupted` at SIGINT and SIGTERM, and at SIGHUP unless it is ignored, as under nohup."""

    def stop(number: int, frame: object) -> None:
        raise _Interrupted(number)

    before = {
        number: signal.signal(number, stop)
        for number in _INTERRUPTED
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
