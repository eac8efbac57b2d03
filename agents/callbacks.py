"""What happens during a training: checkpoints, evaluations, the log of episodes, and progress."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.deployment import Deployments
from agents.run_folder import RunFolder
from agents.saving import save_model
from agents.standardize import standardization
from agents.stopping import StopRequest
from agents.vector_env import NativeVecEnv, make_native_vec_env
from kml_envs.files import write_arrays

FloatArray = npt.NDArray[np.float64]


class _Periodic(BaseCallback):
    """Something to do every so many steps of all environments together, and of the models between two updates.

    In the midst of a rollout the model is still that of its beginning, so that all waits for the next one: what is
    found after so many steps is found of the model that they have made.

    Attributes:
        every: Steps between two times; 0: never.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self._next = 0

    def _on_training_start(self) -> None:
        self._next = self.num_timesteps + self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.every and self.num_timesteps >= self._next:
            self._next += self.every * (1 + (self.num_timesteps - self._next) // self.every)
            self._act()

    def _on_training_end(self) -> None:
        self._on_rollout_start()

    def _act(self) -> None:
        raise NotImplementedError


class SaveCheckpoints(_Periodic):
    """Saves the model now and then."""

    def __init__(self, folder: RunFolder, every: int) -> None:
        """Save into a run's folder every so many steps."""
        super().__init__(every)
        self.folder = folder

    def _act(self) -> None:
        save_model(self.model, self.folder.checkpoint(self.num_timesteps))


ALL_EPISODES = "all-episodes"
"""What stands for the workload in an environment without any to choose from."""


class Evaluate(_Periodic):
    """Plays the same episodes of the validation workloads now and then, and keeps the best model.

    Every workload is played equally often. The score that decides is the mean over the episodes of
    log(write amplification of the built-in algorithm / that of the agent) at the same user writes, where the
    environment tells both, and the mean return otherwise; of environments with latencies, the same of the device time
    of the user's writes and the cost.

    Beside that it may let the model run under mode `auto`, to see whether the proxy would trust it by now.

    Attributes:
        history: What each evaluation found, oldest first.
        best: The highest score so far.
    """

    def __init__(
        self,
        folder: RunFolder,
        env_id: str,
        env_kwargs: Mapping[str, Any],
        workloads: Sequence[str],
        *,
        every: int,
        episodes: int,
        seed: int,
        threads: int = 1,
        deployments: Deployments | None = None,
        request: StopRequest | None = None,
    ) -> None:
        """Prepare the environments.

        Args:
            folder: Where results go.
            env_id: The environment.
            env_kwargs: Its arguments; workloads and mode are replaced.
            workloads: Names of the validation workloads; none where the environment has no workloads to choose from.
            every: Steps between two evaluations; 0: only the first and the last one.
            episodes: Episodes of one evaluation, rounded up to a multiple of the number of workloads.
            seed: Of the first row; row i is seeded `seed` + i.
            threads: Threads that step the environments.
            deployments: Deployments under mode `auto`; None: without them.
            request: Upon which an evaluation is given up by raising `Stopped`, and the last one is left out.
        """
        super().__init__(every)
        self.folder = folder
        self.workloads = tuple(workloads) or (ALL_EPISODES,)
        self.seed = seed
        per_workload = -(-episodes // len(self.workloads))
        chosen = {"workloads": list(workloads)} if workloads else {}
        arguments = {**env_kwargs, **chosen, "mode": "recommendation", "probes": False}
        self.env = make_native_vec_env(env_id, per_workload * len(self.workloads), arguments, threads)
        self.deployments = deployments
        self.request = request or StopRequest()
        self.history: list[dict[str, Any]] = []
        self.best = -np.inf

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._act()

    def _on_training_end(self) -> None:
        if self.request.signal_name:
            return
        if not self.history or self.history[-1]["timesteps"] != self.num_timesteps:
            self._act()

    def _act(self) -> None:
        # The same seeds each time, so that two evaluations differ by the model only.
        per_workload = self.env.num_envs // len(self.workloads)
        self.env.seed(self.seed)
        if self.workloads != (ALL_EPISODES,):
            self.env.set_options([{"workload": workload} for workload in self.workloads for _ in range(per_workload)])
        episodes = play_once(self.model, self.env, self.request.check)
        scores = np.array([score(episode) for episode in episodes])
        per = scores.reshape(len(self.workloads), per_workload).mean(axis=1)
        self.history.append(
            {
                "timesteps": self.num_timesteps,
                "results": [episode["r"] for episode in episodes],
                "ep_lengths": [episode["l"] for episode in episodes],
                "scores": scores,
            }
        )
        write_arrays(
            self.folder.path / "evaluations.npz",
            {
                **{key: np.array([one[key] for one in self.history]) for key in self.history[0]},
                "workloads": np.repeat(np.array(self.workloads), per_workload),
            },
        )
        self.logger.record("eval/mean_reward", float(np.mean(self.history[-1]["results"])))
        self.logger.record("eval/mean_ep_length", float(np.mean(self.history[-1]["ep_lengths"])))
        self.logger.record("eval/score", float(scores.mean()))
        for workload, value in zip(self.workloads, per, strict=True):
            self.logger.record(f"eval/score/{workload}", float(value))
        if "write_amplification" in episodes[0]:
            amplification = [episode["write_amplification"] for episode in episodes]
            self.logger.record("eval/write_amplification", float(np.exp(np.mean(np.log(amplification)))))
        if scores.mean() > self.best:
            self.best = float(scores.mean())
            save_model(self.model, self.folder.best_model)
        if self.deployments is not None:
            self.request.check()
            self._deploy(self.deployments)
        self.logger.dump(self.num_timesteps)

    def _deploy(self, deployments: Deployments) -> None:
        """See whether the proxy would trust the model, and when."""
        with standardization(self.model.policy, learning=False):
            outcome = deployments.play(self.model, until_trusted=True)
        self.logger.record("eval/auto/mode", float(outcome.mode.mean()))
        self.logger.record("eval/auto/trusted_fraction", float(outcome.trusted.mean()))
        self.logger.record("eval/auto/degradations", float(outcome.degradations.mean()))
        self.logger.record("eval/auto/evidence_better", float(outcome.evidence.mean()))
        self.logger.record("eval/auto/evidence_needed", float(outcome.evidence_needed.mean()))
        for name, after in (
            ("collaboration", outcome.collaboration_after),
            ("recommendation", outcome.recommendation_after),
        ):
            if (reached := after[~np.isnan(after)]).size:
                tag = f"eval/auto/{name}_after_{deployments.unit.replace(' ', '_')}"
                self.logger.record(tag, float(np.median(reached)))

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
        if self.deployments is not None:
            self.deployments.close()


class LogEpisodes:
    """Writes one line per training episode, in the format of Stable-Baselines3's monitor files."""

    def __init__(self, folder: RunFolder, env_id: str) -> None:
        """Write into a run's folder."""
        self.path = folder.path / "0.monitor.csv"
        self.env_id = env_id
        self._writer: ResultsWriter | None = None

    def add(self, episode: Mapping[str, Any]) -> None:
        """An episode has ended."""
        if self._writer is None:
            extra = tuple(sorted(set(episode) - {"r", "l", "t"}))
            header: dict[str, float | str] = {"t_start": time.time(), "env_id": self.env_id}
            self._writer = ResultsWriter(str(self.path), header=header, extra_keys=extra)
        self._writer.write_row(dict(episode))

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._writer is not None:
            self._writer.close()


class RefillReplayBuffer(BaseCallback):
    """Lets a continued training collect experience before the first update, as it did when it began.

    Its replay buffer is empty again: the first updates would see a handful of transitions over and over. Random
    actions, with which Stable-Baselines3 fills the buffer of a new model, are left out: this model has learned to act.
    """

    def __init__(self, model: OffPolicyAlgorithm) -> None:
        """Hold back the updates of a model for as many further steps as its `learning_starts` says."""
        super().__init__()
        self._until = model.num_timesteps + model.learning_starts
        self._gradient_steps = model.gradient_steps
        model.gradient_steps = 0

    def _on_step(self) -> bool:
        assert isinstance(self.model, OffPolicyAlgorithm)
        if self.num_timesteps > self._until:
            self.model.gradient_steps = self._gradient_steps
        return True


class ShowProgress(BaseCallback):
    """A bar with rate and time to go, on standard error."""

    def __init__(self, total: int, evaluate: Evaluate | None = None) -> None:
        """Show the way to so many steps, with the best score beside it."""
        super().__init__()
        self.total = total
        self.evaluate = evaluate
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("training", total=total)

    def _on_training_start(self) -> None:
        self._bar.start()

    def _on_step(self) -> bool:
        best = self.evaluate.best if self.evaluate is not None else -np.inf
        description = "training" if not np.isfinite(best) else f"training, best score {best:+.3f}"
        self._bar.update(self._task, completed=self.num_timesteps, description=description)
        return True

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0.0:,.0f}/s")


def play_once(
    model: BaseAlgorithm, env: NativeVecEnv, check: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Play one episode in every row, without exploration.

    Args:
        model: The model.
        env: The environment; its seeds are set already.
        check: Called before each step; what it raises ends the episodes.

    Returns:
        The `episode` info of each row's first episode.
    """
    observations = env.reset()
    masked = "action_masks" in inspect.signature(model.predict).parameters
    episodes: list[dict[str, Any] | None] = [None] * env.num_envs
    while None in episodes:
        check()
        arguments: dict[str, Any] = {"action_masks": env.action_masks()} if masked else {}
        with standardization(model.policy, learning=False):
            actions, _ = model.predict(observations, deterministic=True, **arguments)  # type: ignore[arg-type]
        observations, _, dones, infos = env.step(actions)
        for row in np.flatnonzero(dones).tolist():
            if episodes[row] is None:
                episodes[row] = infos[row]["episode"]
    return [episode for episode in episodes if episode is not None]


def score(episode: Mapping[str, Any]) -> float:
    """How good an episode was: see `Evaluate`."""
    if "moved_blocks" not in episode or "efficiency" not in episode:
        return float(episode["r"])
    if "cost_ms" in episode:
        paid, saved = episode["user_ms"] + episode["cost_ms"], episode["efficiency"] / 1e6
    else:
        paid, saved = episode["user_blocks"] + episode["moved_blocks"], episode["efficiency"]
    return float(np.log((paid + saved) / paid))
