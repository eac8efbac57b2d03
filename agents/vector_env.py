"""Stable-Baselines3's `VecEnv` over the native vector environments: no process, no Python loop over instances.

One adapter steps one or several native environments (*shards*) as if they were one. Each shard may run in a thread of
its own, because the compiled simulators release the interpreter's lock. The reset option `workload` may differ from
row to row, which is how an evaluation visits every workload equally often.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from kml_envs.errors import UserError, in_one_line
from kml_envs.proxy import MLModelProxy
from kml_envs.registration import find_environment
from kml_envs.serve.recording import Recorder

NativeEnv = VectorEnv[Any, Any, Any]
BoolArray = npt.NDArray[np.bool_]
_DECISIONS = ("executed_decision", "builtin_decision")  # of the last step, where they are told


def make_native_vec_env(
    env_id: str, n_envs: int, env_kwargs: Mapping[str, Any] | None = None, threads: int = 1
) -> NativeVecEnv:
    """Make a `VecEnv` of so many instances.

    Rows do not depend on the number of threads: row i of a `VecEnv` seeded s is seeded s + i.

    Args:
        env_id: Such as `kml/LfsTune-v0`, or `MODULE:ID` for an environment of your own.
        n_envs: Instances N.
        env_kwargs: Arguments of the environment.
        threads: Shards that are stepped in parallel; at most N.

    Returns:
        The `VecEnv`.

    Raises:
        UserError: The id or an argument is not known, or a value is out of range.
    """
    if n_envs < 1:
        raise UserError(f"at least one environment is needed, got {n_envs}")
    shards = min(threads, n_envs)
    sizes = [n_envs // shards + (shard < n_envs % shards) for shard in range(shards)]
    return NativeVecEnv([make_native_env(env_id, size, env_kwargs) for size in sizes], threads)


def make_native_env(env_id: str, n_envs: int, env_kwargs: Mapping[str, Any] | None = None) -> NativeEnv:
    """Make one native vector environment; see `make_native_vec_env`."""
    name = find_environment(env_id)
    try:
        return gymnasium.make_vec(
            name, num_envs=n_envs, vectorization_mode="vector_entry_point", **dict(env_kwargs or {})
        )
    except TypeError as error:
        raise UserError(f"{env_id} does not take these arguments {dict(env_kwargs or {})}: {error}") from None
    except gymnasium.error.Error as error:
        raise UserError(f"environment '{env_id}': {in_one_line(error)}") from None


class NativeVecEnv(VecEnv):
    """N instances in one or several native vector environments.

    The infos of a step are empty, except where an episode ended: `terminal_observation`, `TimeLimit.truncated`, and
    `episode` with its return `r`, length `l` and end `t` (seconds since the start) as `Monitor` would put it there,
    and beside them the environment's own metrics of the episode.

    Attributes:
        environments: The shards.
        threads: How many of them are stepped at the same time.
        recorder: Stores every decision, if there is one; the shards then need `info_decisions`.
        listeners: Are told the `episode` info of every episode that ends.
    """

    def __init__(self, environments: Sequence[NativeEnv], threads: int = 1) -> None:
        """Join environments that have equal spaces.

        Args:
            environments: The shards, in the order of their rows, resetting themselves in the step that ends an episode.
            threads: How many of them are stepped at the same time.

        Raises:
            UserError: A shard resets itself otherwise.
        """
        self.environments: list[Any] = [environment.unwrapped for environment in environments]
        for environment in self.environments:
            if environment.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
                raise UserError("Stable-Baselines3 needs environments with autoreset_mode='same_step'")
        first = self.environments[0]
        ends = list(itertools.accumulate(environment.num_envs for environment in self.environments))
        self._slices = [
            slice(end - environment.num_envs, end) for environment, end in zip(self.environments, ends, strict=True)
        ]
        self._masked = isinstance(first.single_action_space, gymnasium.spaces.Discrete)
        self.threads = min(threads, len(self.environments))
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self.recorder: Recorder | None = None
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self._observations: npt.NDArray[Any] = np.zeros(0)
        self._actions: npt.NDArray[Any] = np.zeros(0)
        self._returns: npt.NDArray[np.float64] = np.zeros(ends[-1])
        self._lengths: npt.NDArray[np.int64] = np.zeros(ends[-1], np.int64)
        self._episodes: npt.NDArray[np.int64] = np.zeros(ends[-1], np.int64)  # before the running one
        self._start = time.monotonic()
        super().__init__(ends[-1], first.single_observation_space, first.single_action_space)

    @property
    def proxies(self) -> list[MLModelProxy]:
        """The proxy of each shard."""
        return [environment.proxy for environment in self.environments]

    def reset(self) -> VecEnvObs:
        """Begin an episode in every row, with the seeds and options given since the last reset.

        Returns:
            (N, F) float32.
        """
        options, workloads = self._split_options()
        results = self._each(lambda shard, rows: shard.reset(seed=self._seeds[rows], options=dict(options)))
        if workloads is not None:
            results = self._each(lambda shard, rows: self._reset_workloads(shard, rows, workloads[rows]))
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._returns[:] = 0.0
        self._episodes += self._lengths > 0
        self._lengths[:] = 0
        self._reset_seeds()
        self._reset_options()
        self._observations = _joined([observations for observations, _ in results])
        return self._observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions (N,) int64 or (N, A) float32; `step_wait` carries them out."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Carry the actions out.

        Returns:
            Observations (N, F) float32, rewards (N,) float32, dones (N,) bool, all new arrays, and N infos.
        """
        masks = self.action_masks() if self.recorder is not None and self._masked else None
        results = self._each(lambda shard, rows: shard.step(self._actions[rows]))
        if self.recorder is not None:
            self._record(self.recorder, results, masks)
        rewards = _joined([result[1] for result in results])
        dones = _joined([result[2] | result[3] for result in results])
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if np.count_nonzero(dones):
            for rows, (_, _, terminated, truncated, shard_infos) in zip(self._slices, results, strict=True):
                self._report_ends(rows.start, terminated, truncated, shard_infos, infos)
            self._returns[dones] = 0.0
            self._episodes[dones] += 1
            self._lengths[dones] = 0
        self._observations = _joined([result[0] for result in results])
        return self._observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the shards."""
        if self._pool is not None:
            self._pool.shutdown()
        for environment in self.environments:
            environment.close()

    def action_masks(self) -> BoolArray:
        """(N, K) bool, the candidates that may be chosen now, a new array. For discrete actions only."""
        masks: BoolArray = _joined([environment.action_masks() for environment in self.environments])
        return masks

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """One picture per row; None in another render mode than "rgb_array"."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        return [image for environment in self.environments for image in environment.render()]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of each row's environment; `action_masks` exists for discrete actions only."""
        if attr_name == "action_masks" and not self._masked:
            raise AttributeError("action_masks exist only where the agent chooses among candidates")
        name = {"observation_space": "single_observation_space", "action_space": "single_action_space"}.get(
            attr_name, attr_name
        )
        values = [getattr(environment, name) for environment in self.environments for _ in range(environment.num_envs)]
        return [values[row] for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: object, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all shards: rows of a native environment have none of their own."""
        if indices is not None:
            raise NotImplementedError("the rows of a native environment share their attributes: leave indices out")
        for environment in self.environments:
            setattr(environment, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """One result per row of a method that serves all rows at once, such as `action_masks` or `render`."""
        results: list[Any] = []
        for environment in self.environments:
            method = getattr(environment, method_name)
            result = method(*method_args, **method_kwargs)
            if not isinstance(result, (np.ndarray, tuple, list)) or len(result) != environment.num_envs:
                raise NotImplementedError(f"'{method_name}' has no result for each row of a native environment")
            results.extend(result)
        return results if indices is None else [results[row] for row in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether each row does what the wrapper does: it reports its episodes as `Monitor`, and nothing else."""
        return [issubclass(wrapper_class, Monitor)] * len(list(self._get_indices(indices)))

    def _each(self, call: Callable[[Any, slice], Any]) -> list[Any]:
        """Call with every shard and its rows, in parallel where there are threads."""
        if self._pool is None:
            return [call(*pair) for pair in zip(self.environments, self._slices, strict=True)]
        return list(self._pool.map(call, self.environments, self._slices))

    def _record(self, recorder: Recorder, results: list[Any], masks: BoolArray | None) -> None:
        """Store the decisions of one step."""
        columns: dict[str, npt.NDArray[Any]] = {
            "row": np.arange(self.num_envs, dtype=np.int32),
            "episode": self._episodes.copy(),
            "features": self._observations,
            "recommendation": np.array(self._actions, np.float64),
            "reward": _joined([result[1] for result in results]),
            "finished": _joined([result[2] | result[3] for result in results]),
        }
        for name in (*_DECISIONS, "verdict", "mode", "acted_by_agent"):
            columns[name] = _joined([result[4][name] for result in results])
        if masks is not None:
            columns["mask"] = masks
        recorder.add(columns)

    def _report_ends(
        self,
        first_row: int,
        terminated: BoolArray,
        truncated: BoolArray,
        shard_infos: dict[str, Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Fill the infos of the rows of one shard whose episodes have ended."""
        ended = np.flatnonzero(terminated | truncated)
        if not ended.size:
            return
        final = shard_infos["final_info"]
        metrics = {key: final[key] for key in final if not key.startswith("_") and key not in _DECISIONS}
        now = round(time.monotonic() - self._start, 6)
        for row in ended.tolist():
            index = first_row + row
            episode = {key: values[row].item() for key, values in metrics.items()}
            episode |= {"r": float(self._returns[index]), "l": int(self._lengths[index]), "t": now}
            infos[index] = {
                "terminal_observation": shard_infos["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "episode": episode,
            }
            for listener in self.listeners:
                listener(episode)

    def _split_options(self) -> tuple[dict[str, Any], list[Any] | None]:
        """The reset options that native environments take for all rows together, and the rows' workloads if given."""
        options = [{key: value for key, value in row.items() if key != "workload"} for row in self._options]
        if any(other != options[0] for other in options):
            raise UserError("the rows of a native environment share their reset options, all but 'workload'")
        if not any("workload" in row for row in self._options):
            return options[0], None
        return options[0], [row.get("workload") for row in self._options]

    def _reset_workloads(self, shard: Any, rows: slice, workloads: list[Any]) -> tuple[Any, Any]:  # noqa: ANN401
        """Begin the rows of one shard once more, each with its own workload, which holds for this episode."""
        for workload in dict.fromkeys(workloads):
            mask = np.array([other == workload for other in workloads])
            result = shard.reset(seed=self._seeds[rows], options={"workload": workload, "reset_mask": mask})
        if len(set(workloads)) > 1:
            shard.proxy.subsystem.fix_workload(None)
        return result  # type: ignore[no-any-return]


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The parts as one new array; a single part is new already."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
