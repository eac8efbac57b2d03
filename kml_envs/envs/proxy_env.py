"""The agent's side of a proxy: Gymnasium environments over any subsystem, single and natively vectorized.

Both are the same thing: a single environment is a batch of one, and `Episodes` holds the only implementation of a
step and of a reset. Concrete environments subclass `ProxyEnv` and `ProxyVectorEnv`, give them a subsystem and, where
they can be drawn, the two `_render` methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from kml_envs.envs.episodes import Episodes
from kml_envs.errors import UserError, unknown_name
from kml_envs.proxy import BatchedSubsystem, Choice, Feedback, MLModelProxy, ProxyOptions
from kml_envs.proxy.specs import Array, BoolArray

Observation = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8] | str
SubsystemFactory = Callable[[int], BatchedSubsystem]


class _HasWorkloads(Protocol):
    warm: Any  # whose `only` is the number of the one workload, or None

    def fix_workload(self, name: str | None) -> None:
        """Draw the coming episodes from one workload; None: from all of them."""


class Rendering:
    """What concrete environments override in order to be drawn, and to take options of `reset`.

    Attributes:
        reset_options: The keys that are accepted.
        vector_reset_options: Those that a vector environment takes beside them.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("mode",)
    vector_reset_options: ClassVar[tuple[str, ...]] = ()
    render_mode: str | None
    proxy: MLModelProxy

    def _render_rgb(self, row: int) -> npt.NDArray[np.uint8]:
        """Draw one instance: (height, width, 3) uint8."""
        raise NotImplementedError(f"{type(self).__name__} declares 'rgb_array' but draws no picture")

    def _render_ansi(self, row: int) -> str:
        """Draw one instance as text."""
        raise NotImplementedError(f"{type(self).__name__} declares 'ansi' but draws no text")

    def _render_row(self, row: int) -> Frame | None:
        """Draw one instance in the environment's render mode; None without one."""
        if self.render_mode == "rgb_array":
            return self._render_rgb(row)
        if self.render_mode == "ansi":
            return self._render_ansi(row)
        return None

    def _apply_options(self, options: dict[str, Any]) -> None:
        """Take over options with known keys; concrete environments add theirs to `reset_options` and do these too."""
        if "mode" in options:
            self.proxy.re_init(replace(self.proxy.options, mode=options["mode"]))

    def _take_options(self, options: dict[str, Any]) -> None:
        """Take over `reset(options=…)`, all of it or nothing.

        Raises:
            UserError: A key is not known, or its value.
        """
        if unknown := sorted(set(options) - set(self.reset_options), key=str):
            accepted = (*self.reset_options, *self.vector_reset_options)
            raise UserError(f"unknown reset options {unknown}: accepted are {', '.join(map(repr, accepted))}")
        self._apply_options(options)


class WorkloadOption(Rendering):
    """The reset option `workload`, of environments whose subsystem can `fix_workload`."""

    reset_options = ("mode", "workload")

    def _apply_options(self, options: dict[str, Any]) -> None:
        subsystem = cast(_HasWorkloads, self.proxy.subsystem)
        before = subsystem.warm.only
        if "workload" in options:
            subsystem.fix_workload(options["workload"])
        try:
            super()._apply_options(options)
        except UserError:
            subsystem.warm.only = before
            raise


class ProxyEnv(Rendering, gymnasium.Env[Any, Any]):
    """One instance of a subsystem behind its proxy.

    ## Action Space
    What the subsystem asks for: `Discrete(K)` for a choice, a flat `Box` for bounded numbers. Anything else is
    rejected with a verdict, and the built-in algorithm acts instead.

    ## Observation Space
    A flat float32 `Box` within the subsystem's bounds. What may be chosen is told by `action_masks()`.

    ## Rewards
    Cost saved against the built-in algorithm since the last step, in units of the subsystem's `reward_scale`.

    ## Episode End
    Truncated after `options.episode_progress` units of progress, never by a count of steps; never terminated.

    ## Information
    `mode`, `verdict`, `acted_by_agent`; with `info_decisions` also `executed_decision` and `builtin_decision`; at
    the end of an episode also `efficiency` (cost saved in the episode) and the subsystem's metrics.

    Attributes:
        proxy: The proxy.
    """

    metadata: dict[str, Any] = {"render_modes": [], "render_fps": 4}  # noqa: RUF012 (Gymnasium's own annotation)

    def __init__(
        self,
        make_subsystem: SubsystemFactory,
        options: ProxyOptions,
        *,
        render_mode: str | None = None,
        info_decisions: bool = False,
    ) -> None:
        """Put a subsystem behind a proxy.

        Args:
            make_subsystem: Makes a batch of so many instances; called with 1.
            options: The proxy's options.
            render_mode: One of `metadata["render_modes"]`, or None.
            info_decisions: Whether infos tell the executed decision and the built-in algorithm's.

        Raises:
            UserError: The options contradict each other, or there is no such render mode.
        """
        self.render_mode = _check_render_mode(render_mode, self.metadata)
        self._episodes = Episodes(make_subsystem(1), options, info_decisions)
        self.proxy = self._episodes.proxy
        self.observation_space, self.action_space = _spaces(self.proxy.subsystem)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Resets everything, the proxy's maturity included; None keeps that and draws the next episode.
            options: `mode`, and what the concrete environment documents.
        """
        if options:
            self._take_options(options)
        super().reset(seed=seed)
        snapshot = self._episodes.begin(_ONE_ROW, [self.np_random], _ONE_ROW & (seed is not None))
        return snapshot.features[0], {"mode": int(self.proxy.controller.mode()[0])}

    def step(self, action: object) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Send a recommendation, and run on to the next question or to the end of the episode."""
        feedback = self._episodes.decide(_as_batch(action))
        snapshot = self._episodes.observe()
        finished = bool(feedback.finished[0])
        info = {
            "mode": feedback.mode.item(),
            "verdict": feedback.verdict.item(),
            "acted_by_agent": feedback.acted_by_agent.item(),
        }
        if self._episodes.info_decisions:
            info |= {key: value[0].copy() for key, value in _decision_infos(feedback).items()}
        if finished:
            info |= {key: value[0].item() for key, value in self._episodes.summary().items()}
        return snapshot.features[0], feedback.reward.item(), False, finished, info

    def action_masks(self) -> BoolArray:
        """(K,) bool, the candidates that may be chosen now; at least one is True. For choices only."""
        masks: BoolArray = self._episodes.action_masks()[0]
        return masks

    def render(self) -> Frame | None:
        """A picture or a text of the subsystem, by the render mode."""
        return self._render_row(0)

    def close(self) -> None:
        """End the proxy's life."""
        self._episodes.close()


class ProxyVectorEnv(Rendering, gymnasium.vector.VectorEnv[Any, Any, Any]):
    """N instances of a subsystem behind one proxy, stepped together.

    Spaces, rewards and infos are those of `ProxyEnv`. Row i of `reset(seed=s)` equals `ProxyEnv.reset(seed=s + i)`,
    step for step; after an autoreset a row's next episode is drawn from that row's own generator, as a plain
    `reset()` of the single environment does. In `SAME_STEP` the infos of a step are those of the step for all rows;
    `final_obs` and `final_info` hold the ended episodes' last observations and summaries.

    Attributes:
        proxy: The proxy.
    """

    vector_reset_options = ("reset_mask",)
    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own annotation)
        "render_modes": [],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        make_subsystem: SubsystemFactory,
        num_envs: int,
        options: ProxyOptions,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        info_decisions: bool = False,
    ) -> None:
        """Put a batch behind a proxy.

        Args:
            make_subsystem: Makes a batch of so many instances; called with `num_envs`.
            num_envs: N.
            options: The proxy's options.
            autoreset_mode: When a row whose episode is over begins its next one.
            render_mode: One of `metadata["render_modes"]`, or None.
            info_decisions: Whether infos tell the executed decisions and the built-in algorithm's.

        Raises:
            UserError: The options contradict each other, or there is no such render or autoreset mode.
        """
        if num_envs < 1:
            raise UserError(f"a vector environment needs at least one instance, got num_envs={num_envs}")
        self.num_envs = num_envs
        self.autoreset_mode = _parse_autoreset_mode(autoreset_mode)
        if options.domains > 1 and self.autoreset_mode is not AutoresetMode.DISABLED:
            raise UserError("the domains of a volume end their episodes together: autoreset_mode must be 'disabled'")
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = _check_render_mode(render_mode, self.metadata)
        self._episodes = Episodes(make_subsystem(num_envs), options, info_decisions)
        self.proxy = self._episodes.proxy
        self.single_observation_space, self.single_action_space = _spaces(self.proxy.subsystem)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._ended: BoolArray = np.zeros(num_envs, dtype=np.bool_)
        self._summary: dict[str, Array] = {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every row.

        Args:
            seed: One seed s for rows seeded s, s + 1, …, or one per row. A seeded row loses the proxy's maturity too;
                the others draw their next episode.
            options: `mode`, `reset_mask` (N,) bool to reset some rows only, and what the concrete environment
                documents.
        """
        seeds = self._row_seeds(seed)
        options = dict(options or {})
        rows = self._checked_mask(options.pop("reset_mask", None))
        if options:
            self._take_options(options)
        if not self._generators:
            self._generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        for row in np.flatnonzero(rows):
            if (given := seeds[row]) is not None:
                self._generators[row] = seeding.np_random(given)[0]
        seeded = np.array([one is not None for one in seeds])
        snapshot = self._episodes.begin(rows, self._generators, rows & seeded)
        self._ended[rows] = False
        return snapshot.features, _masked({"mode": self.proxy.controller.mode().copy()}, rows)

    def step(self, actions: object) -> tuple[Observation, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Send one recommendation per row, and run every row on to its next question or its episode's end."""
        feedback = self._episodes.decide(actions)
        step_infos = _step_infos(feedback)
        if self._episodes.info_decisions:
            step_infos |= _decision_infos(feedback)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and np.count_nonzero(self._ended):
            # These rows stood still and only begin their next episode in this step.
            truncated = feedback.finished & ~self._ended
            infos = _masked(step_infos, ~self._ended)
            observations = self._episodes.begin(self._ended, self._generators, self._none()).features
        else:
            truncated = feedback.finished
            infos = _masked(step_infos, ~self._none())
            observations = self._episodes.observe().features
        if np.count_nonzero(truncated):
            summary = self._summarized(truncated)
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos |= _final_infos(observations, _masked({**step_infos, **summary}, truncated), truncated)
                observations = self._episodes.begin(truncated, self._generators, self._none()).features
            else:
                infos |= _masked(summary, truncated)
        self._ended = truncated.copy()
        return observations, feedback.reward, self._none(), truncated, infos

    def play_every_seed(self) -> None:
        """Let a seed name the same episode under every mode: none is passed over from now on.

        For evaluations. An episode in which the agent has no unit is over at `reset`, and ends with the next step.
        """
        self._episodes.passes_over_unasked = False

    def action_masks(self) -> BoolArray:
        """(N, K) bool, the candidates that may be chosen now; at least one per row is True. For choices only."""
        return self._episodes.action_masks()

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a text of each instance, by the render mode."""
        if self.render_mode is None:
            return None
        return tuple(self._render_row(row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the proxy's life."""
        self._episodes.close()

    def _summarized(self, truncated: BoolArray) -> dict[str, Array]:
        """The episodes' summaries; rows that stand still at their end are not summed up again at every step."""
        if self.autoreset_mode is not AutoresetMode.DISABLED or np.count_nonzero(truncated & ~self._ended):
            self._summary = self._episodes.summary()
        return {name: values.copy() for name, values in self._summary.items()}

    def _none(self) -> BoolArray:
        """(N,) False, a new array."""
        return np.zeros(self.num_envs, dtype=np.bool_)

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed, or None, per row."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise UserError(f"one seed for each of the {self.num_envs} rows is needed, got {len(seed)}")
        return list(seed)

    def _checked_mask(self, mask: object) -> BoolArray:
        """The rows to reset."""
        if mask is None:
            return ~self._none()
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise UserError(f"reset_mask must be a bool array of shape ({self.num_envs},), got {mask!r}")
        return mask.copy()


_ONE_ROW: BoolArray = np.ones(1, dtype=np.bool_)


def _spaces(subsystem: BatchedSubsystem) -> tuple[gymnasium.spaces.Box, gymnasium.Space[Any]]:
    """Observation and action space of one instance."""
    seen, asked = subsystem.observation, subsystem.recommendation
    observation_space = gymnasium.spaces.Box(seen.low, seen.high, dtype=np.float32)
    if isinstance(asked, Choice):
        return observation_space, gymnasium.spaces.Discrete(asked.count)
    return observation_space, gymnasium.spaces.Box(asked.low, asked.high, dtype=np.float32)


def _as_batch(action: object) -> object:
    """One instance's action as a batch of one; what is no action at all is passed on for the proxy to judge."""
    if isinstance(action, np.ndarray):
        return action[None]
    if type(action) is int or isinstance(action, np.integer):
        return np.array((action,))
    return [action]


def _step_infos(feedback: Feedback) -> dict[str, Array]:
    """(N,) scalars of one step."""
    return {"mode": feedback.mode, "verdict": feedback.verdict, "acted_by_agent": feedback.acted_by_agent}


def _decision_infos(feedback: Feedback) -> dict[str, Array]:
    """What was carried out, and what the built-in algorithm would have done."""
    assert feedback.builtin_decision is not None, "the proxy keeps it where info_decisions is set"
    return {"executed_decision": feedback.decision, "builtin_decision": feedback.builtin_decision}


def _masked(infos: Mapping[str, Array], rows: BoolArray) -> dict[str, Any]:
    """Gymnasium's form of vector infos: beside each array the rows in which it means something."""
    masked: dict[str, Any] = {}
    for key, value in infos.items():
        masked[key] = value
        masked[f"_{key}"] = rows.copy()
    return masked


def _final_infos(observations: Observation, final_info: dict[str, Any], rows: BoolArray) -> dict[str, Any]:
    """Last observations and infos of the episodes that ended in this step, in Gymnasium's form."""
    final_obs = np.full(len(rows), None, dtype=object)
    for row in np.flatnonzero(rows):
        final_obs[row] = observations[row].copy()
    return _masked({"final_obs": final_obs}, rows) | {"final_info": final_info, "_final_info": rows.copy()}


def _check_render_mode(render_mode: str | None, metadata: Mapping[str, Any]) -> str | None:
    """The render mode, if the environment has it."""
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise unknown_name("render mode", render_mode, metadata["render_modes"])
    return render_mode


def _parse_autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    """The autoreset mode, by Gymnasium's enumeration, its values or its names in lower case."""
    if isinstance(given, AutoresetMode):
        return given
    accepted = {name: mode for mode in AutoresetMode for name in (mode.value, mode.name.lower())}
    if given not in accepted:
        raise unknown_name("autoreset mode", given, accepted)
    return accepted[given]
