"""One evaluation from its options to its report; `evaluate.py` is the command line of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, TypeGuard

import torch

from agents.baselines import TUNE, Contender, compared_builtins, named_contender, names_of, suite_of
from agents.benchmark_suites import SUITES, BenchmarkSuite, find_suite
from agents.costs import HELD_OUT_SEEDS, compare_costs
from agents.damo_records import check_recordable, write_episodes
from agents.deployment import Deployed, Deployments, can_deploy, deploy
from agents.evaluation import check_oracle, compare, report
from agents.explaining import EPISODES, explain
from agents.exports import check_outputs, write_csv, write_json
from agents.loading import load_model
from agents.playing import check_arguments, check_rivals, make_environment
from agents.plots import check_format, write_plot
from agents.results import Comparison
from agents.shipped import check_complete, find_agent, load_agent
from agents.suite_report import play_suite, report_suite, shipped_policies, version_warning
from kml_envs.errors import UserError
from kml_envs.files import is_stream
from kml_envs.long_episodes import UNITS, is_own

DEFAULT_SPLIT = "held-out"
FIRST_SEED = 1001
DEFAULT_SEEDS = 5


@dataclass(frozen=True)
class JudgingOptions:
    """What an evaluation is asked for.

    Attributes:
        model: Run folder or zip file; None where `policy` or `agent` is given.
        policy: Name as `agents.baselines.named_contender` takes it.
        agent: Name of a shipped agent, as `agents.shipped.load_agent` takes it.
        env: Environment id; None: that of the model.
        env_kwargs: Arguments of the environment; with a model, they replace those of its run.
        workloads: Suites and workloads; empty: the held-out suite.
        seeds: Seeds of the episodes; None: counted up from `FIRST_SEED`.
        n_seeds: How many.
        mode: The proxy's mode.
        algo: Algorithm of a model that has no run folder.
        trust: Whether such a model may run code.
        json: File for everything.
        csv: File for one line per episode.
        plot: File for a picture.
        damo: File for what the monitor finds in an episode on each workload, as records of damo.
        quiet: Whether to keep still while playing.
        deployment: Length of the deployments of a second table, under mode `auto`, in what
            `kml_envs.long_episodes.unit_of` says; None: the usual one; 0: without the table. A built-in algorithm has
            none, nor has a subsystem of one's own without a window.
        explain: Whether to explain the agent instead.
        output: Where pictures of the explanation go.
    """

    model: Path | None = None
    policy: str | None = None
    agent: str | None = None
    env: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    workloads: tuple[str, ...] = ()
    seeds: list[int] | None = None
    n_seeds: int | None = None
    mode: str | None = None
    algo: str | None = None
    trust: bool = False
    json: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    damo: Path | None = None
    quiet: bool = False
    deployment: float | None = None
    explain: bool = False
    output: Path | None = None


def judge(options: JudgingOptions, told: TextIO) -> str:
    """Play, write the files that are wanted, and report.

    Everything that the user may have got wrong is found before the first episode is played.

    Args:
        options: What is asked for.
        told: Where to say what is being played.

    Raises:
        UserError: The options contradict each other, or name what does not exist.
    """
    torch.set_num_threads(1)
    if options.explain:
        return _explain(options, told)
    if options.output is not None:
        raise UserError("--output: is where --explain draws; --json, --csv and --plot name files")
    seeds = _seeds(options)
    outputs = {name: getattr(options, name.strip("-")) for name in ("--json", "--csv", "--plot", "--damo")}
    traces = [Path(name.removeprefix("trace:")) for name in options.workloads if name.startswith("trace:")]
    check_outputs(outputs, traces if options.model is None else [*traces, options.model])
    check_format(options.plot)
    if (suite := _benchmark(options)) is not None:
        return _judge_suite(suite, options, seeds, told)
    judged = _judged(options)
    check_recordable(options.damo, judged.env_id)

    def progress(name: str) -> None:
        if not options.quiet:
            print(f"playing {name} ...", file=told, flush=True)

    if is_own(judged.env_id):
        if options.workloads or options.json or options.csv or options.plot:
            raise UserError(f"--suite, --workload, --trace, --json, --csv and --plot do not go with {judged.env_id}")
        chosen = seeds if options.seeds or options.n_seeds else HELD_OUT_SEEDS
        _check_playable(options, judged, None)
        deployments = _deployments(judged, options, (), chosen)
        text = compare_costs(judged.name, judged.env_id, judged.env_kwargs, judged.make_policy, chosen, progress)
        return text if deployments is None else f"{text}\n\n{_deploy(judged, deployments, progress).text}"
    workloads = names_of(judged.env_id, options.workloads or suite_of(judged.env_id, DEFAULT_SPLIT))
    _check_playable(options, judged, workloads[0])
    check_rivals(compared_builtins(judged.env_id, judged.env_kwargs), workloads[0])
    check_oracle(judged, workloads)
    deployments = _deployments(judged, options, workloads, seeds)
    comparison = compare(judged, workloads, seeds, progress=progress)
    # What is there is kept if the deployments are interrupted, but a pipe takes results once only.
    _write_files(options, judged, comparison, None, last=deployments is None)
    if options.plot is not None:
        write_plot(options.plot, comparison)
    if options.damo is not None:
        progress(f"{judged.name} for {options.damo}")
        write_episodes(options.damo, judged, workloads, seeds[0])
    text = report(comparison)
    if deployments is None:
        return text
    deployed = _deploy(judged, deployments, progress)
    _write_files(options, judged, comparison, deployed)
    return f"{text}\n\n{deployed.text}"


def _write_files(
    options: JudgingOptions, judged: Contender, comparison: Comparison, deployed: Deployed | None, last: bool = True
) -> None:
    """Write what is wanted as JSON and CSV; into streams the last time only."""

    def now(path: Path | None) -> TypeGuard[Path]:
        return path is not None and (last or not is_stream(path))

    if now(options.json):
        settings = {"env": judged.env_id, "env_kwargs": dict(judged.env_kwargs), "model": _text(options.model)}
        settings["agent"] = options.agent
        write_json(options.json, comparison, settings, deployed)
    if now(options.csv):
        write_csv(options.csv, comparison, deployed)


def _deployments(
    judged: Contender, options: JudgingOptions, workloads: Sequence[str], seeds: Sequence[int]
) -> Deployments | None:
    """The deployments of the second table, if there is to be one."""
    units = UNITS if options.deployment is None else options.deployment
    if units > 0 and not judged.builtin and can_deploy(judged.env_id, judged.env_kwargs):
        return Deployments.on_every(judged, workloads, seeds, units)
    if options.deployment:
        lacking = "is not deployed" if judged.builtin else f"cannot be deployed: {judged.env_id} has no window"
        raise UserError(f"--deployment {options.deployment:g}: {judged.name} {lacking}; leave it out, or give 0")
    return None


def _deploy(judged: Contender, deployments: Deployments, progress: Callable[[str], None]) -> Deployed:
    """What the second table tells."""
    progress("deployment under mode auto")
    deployed = deploy(judged, deployments)
    deployments.close()
    return deployed


def _benchmark(options: JudgingOptions) -> BenchmarkSuite | None:
    """The benchmark suite that is to be played, if it is one."""
    benchmarks = [name for name in options.workloads if name in SUITES]
    if benchmarks and len(options.workloads) > 1:
        raise UserError(
            f"--suite {benchmarks[0]}: is a benchmark with workloads of its own: give neither other suites beside it "
            "nor --workload or --trace"
        )
    return find_suite(benchmarks[0]) if benchmarks else None


def _judge_suite(suite: BenchmarkSuite, options: JudgingOptions, seeds: tuple[int, ...], told: TextIO) -> str:
    """Play a benchmark suite with its shipped agent, or with the one that is given."""
    if options.damo is not None:
        raise UserError(f"--suite {suite.name}: plays several agents: --damo does not go with it")
    if options.mode is not None or options.policy is not None or "mode" in options.env_kwargs:
        raise UserError(f"--suite {suite.name}: is for agents that always act: --policy and --mode do not go with it")
    if options.deployment is not None:
        raise UserError(f"--suite {suite.name}: says itself how long agents are deployed: leave --deployment out")
    if options.model is None and options.agent is None and (options.env or options.algo or options.trust):
        raise UserError(
            f"--suite {suite.name}: plays {suite.env_id} with the agent that is shipped: --env, --algo and --trust go "
            "with a model only"
        )
    _check_chosen_elsewhere(options)
    suite = replace(suite, env_kwargs={**suite.env_kwargs, **options.env_kwargs}, episode_seeds=seeds)
    check_arguments(suite.env_id, suite.env_kwargs, suite.played[0])
    check_rivals(suite.builtins, suite.played[0])
    if options.model is None and options.agent is None:
        policies = shipped_policies(suite)
        suite = replace(suite, start=find_agent(suite.name).hyperparameters.get("policy_kwargs", {}))
    else:
        judged = _judged(options)
        if judged.env_id != suite.env_id:
            raise UserError(f"--suite {suite.name}: plays {suite.env_id}, the agent was trained on {judged.env_id}")
        space = make_environment(suite.env_id, suite.env_kwargs, suite.played[0], 1).single_action_space
        policies = {0: judged.make_policy(space)}
    if options.model is None and (warning := version_warning(options.agent or suite.name)) is not None:
        print(warning, file=told, flush=True)
    tell = (lambda what: None) if options.quiet else (lambda what: print(f"playing {what} ...", file=told, flush=True))
    result = play_suite(suite, policies, tell)
    return report_suite(result, json=options.json, csv=options.csv, plot=options.plot)


def _explain(options: JudgingOptions, told: TextIO) -> str:
    """Explain an agent instead of judging it."""
    if options.policy is not None:
        raise UserError("--explain: is for agents: --policy does not go with it")
    moded = options.mode is not None or "mode" in options.env_kwargs
    if options.json or options.csv or options.plot or options.damo or moded:
        raise UserError("--explain: draws into --output: --json, --csv, --plot, --damo and --mode do not go with it")
    if options.deployment is not None:
        raise UserError("--explain: deploys nothing: --deployment does not go with it")
    if set(options.workloads) & set(SUITES):
        raise UserError("--explain: --suite takes suites of workloads here, and --agent the agent")
    seeds = _seeds(replace(options, n_seeds=EPISODES) if options.seeds is None and options.n_seeds is None else options)
    judged = _judged(options)
    if is_own(judged.env_id):
        raise UserError(f"--explain: {judged.env_id} tells no measure of its episodes")
    workloads = names_of(judged.env_id, options.workloads or suite_of(judged.env_id, DEFAULT_SPLIT))
    _check_playable(options, judged, workloads[0])
    name = (options.agent or str(options.model and options.model.stem)).replace(":", "-seed-")
    tell = (lambda what: None) if options.quiet else (lambda what: print(f"playing {what} ...", file=told, flush=True))
    return explain(judged, workloads, seeds, name=name, shipped=options.agent, folder=options.output, tell=tell)


def _judged(options: JudgingOptions) -> Contender:
    """The policy and its environment."""
    if sum(given is not None for given in (options.model, options.policy, options.agent)) != 1:
        raise UserError("give either a model or --policy or --agent (see --help)")
    _check_chosen_elsewhere(options)
    given = _given(options)
    if options.policy is not None:
        if options.algo is not None or options.trust:
            raise UserError("--algo and --trust do not go with --policy: they are for models without a run folder")
        return named_contender(options.policy, TUNE if options.env is None else options.env, given)
    if options.agent is not None:
        check_complete(options.env, options.algo, options.trust)
        shipped = load_agent(options.agent, env_kwargs=options.env_kwargs)
        kwargs = {**shipped.env_kwargs, **given}
        return Contender(f"agent ({options.agent})", shipped.env_id, kwargs, lambda space: shipped.model)
    assert options.model is not None
    loaded = load_model(
        options.model, env_id=options.env, env_kwargs=options.env_kwargs, algo=options.algo, trust=options.trust
    )
    return Contender(
        f"agent ({loaded.algo})", loaded.env_id, {**loaded.env_kwargs, **given}, lambda space: loaded.model
    )


def _given(options: JudgingOptions) -> dict[str, Any]:
    """The arguments of the environment that the user gives."""
    return {**options.env_kwargs, **({} if options.mode is None else {"mode": options.mode})}


def _check_playable(options: JudgingOptions, judged: Contender, workload: str | None) -> None:
    """See that a policy and the arguments of its environment fit, before anybody plays."""
    given = judged.env_kwargs if options.policy is None else _given(options)
    check_arguments(judged.env_id, given, workload)
    environment = make_environment(judged.env_id, judged.env_kwargs, workload, 1)
    judged.make_policy(environment.single_action_space)
    environment.close()


def _check_chosen_elsewhere(options: JudgingOptions) -> None:
    """Refuse arguments of the environment that options of their own say."""
    if "workloads" in options.env_kwargs:
        raise UserError("--env-kwargs workloads: choose them by --suite, --workload or --trace")
    if options.mode is not None and "mode" in options.env_kwargs:
        raise UserError("--env-kwargs mode: is said by --mode already")


def _seeds(options: JudgingOptions) -> tuple[int, ...]:
    count = options.n_seeds
    if options.seeds is not None:
        if count is not None and count != len(options.seeds):
            raise UserError(f"--n-seeds {count}: {len(options.seeds)} seeds are given")
        if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
            raise UserError(f"--seeds {' '.join(map(str, options.seeds))}: must be different and not negative")
        return tuple(options.seeds)
    count = DEFAULT_SEEDS if count is None else count
    if not 1 <= count <= 1000:
        raise UserError(f"--n-seeds {count}: must lie in 1..1000")
    return tuple(range(FIRST_SEED, FIRST_SEED + count))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
