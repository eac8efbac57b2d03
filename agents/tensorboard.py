"""What goes to TensorBoard beside Stable-Baselines3's own tags: the proxy, the subsystem, figures and a layout.

Tags: `proxy/…` counters of the proxies over all instances, `lfs/…` (or the prefix of another subsystem) means over
the last hundred training episodes, `eval/…` the validation workloads, `eval/auto/…` the same under mode `auto`,
`figures/…`, and the hyperparameters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, HParam, Image, TensorBoardOutputFormat

from agents.tensorboard_layout import Charts
from agents.vector_env import NativeVecEnv
from kml_envs.damon.programs import MonitoredPrograms
from kml_envs.damon.rendering import draw_program
from kml_envs.lfs.rendering import draw_segments
from kml_envs.lfs.subsystem import LfsVolumes
from kml_envs.proxy.modes import Mode

_NOT_IN_TEXT = ("stdout", "log", "json", "csv")
_NOT_MEASURED = {"r", "l", "t", "workload", "mode", "verdict", "acted_by_agent"}  # of an episode's last step
_TRUST = ("share", "evidence_not_worse", "evidence_better", "evidence_needed", "budget_left", "degradations")
EPISODES = 100  # that the subsystem's tags are means of
RECORDS = 200  # times that an off-policy training, which has no long rollouts, records its tags
FIGURES = 8  # times that figures are drawn


class RecordSystem(BaseCallback):
    """Records the proxy and the subsystem during a training."""

    def __init__(
        self,
        env: NativeVecEnv,
        env_id: str,
        total: int,
        hyperparameters: Mapping[str, Any],
        layout: Mapping[str, Charts],
    ) -> None:
        """Watch an environment.

        Args:
            env: The training environment, below any wrapper.
            env_id: Its id; the subsystem's tags are named after it.
            total: Steps of the training.
            hyperparameters: For the HPARAMS tab.
            layout: For the CUSTOM SCALARS tab.
        """
        super().__init__()
        self.env = env
        self.prefix = subsystem_prefix(env_id)
        self.hyperparameters = dict(hyperparameters)
        self.layout = dict(layout)
        self._record_every = max(1, total // RECORDS)
        self._draw_every = max(1, total // FIGURES)
        self._next_record = self._next_figures = 0
        self._timeline: list[tuple[int, float, float]] = []  # steps, mean mode, agent's share of the operations
        self._episodes: deque[Mapping[str, Any]] = deque(maxlen=EPISODES)
        env.listeners.append(self._episodes.append)

    def _on_training_start(self) -> None:
        metrics = {"rollout/ep_rew_mean": 0.0, "eval/score": 0.0}
        if self.prefix == "lfs":
            metrics["eval/write_amplification"] = 0.0
        self.logger.record("hparams", HParam(flat(self.hyperparameters), metrics), exclude=_NOT_IN_TEXT)
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.add_custom_scalars(self.layout)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps < self._next_record:
            return
        self._next_record = self.num_timesteps + self._record_every
        self._record_proxy()
        self._record_subsystem()
        if self.num_timesteps >= self._next_figures:
            self._next_figures = self.num_timesteps + self._draw_every
            self._draw()

    def _on_training_end(self) -> None:
        self._record_proxy()
        self._record_subsystem()
        self._draw()
        self.logger.dump(self.num_timesteps)

    def _record_proxy(self) -> None:
        tables = [proxy.table() for proxy in self.env.proxies]
        table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
        operations = table["agent_operations"].sum() + table["builtin_operations"].sum()
        share = float(table["agent_operations"].sum() / max(operations, 1))
        mode = float(table["mode"].mean())
        self.logger.record("proxy/mode", mode)
        for one in Mode:
            self.logger.record(f"proxy/mode_fraction/{one.name.lower()}", float((table["mode"] == one).mean()))
        self.logger.record("proxy/agent_share", share)
        for name, values in table.items():
            # Most verdicts are other subsystems'; one that is seen later has a curve from then on.
            if name == "verdict/accepted" or (name.startswith("verdict/") and values.any()):
                self.logger.record(f"proxy/{name}", int(values.sum()))
        for name in _TRUST:
            if name in table:
                self.logger.record(f"proxy/{name}", float(table[name].mean()))
        self.logger.record("proxy/efficiency/agent", float(table["saved_by_agent"].sum()))
        self.logger.record("proxy/efficiency/builtin", float(table["saved_by_builtin"].sum()))
        self._timeline.append((self.num_timesteps, mode, share))

    def _record_subsystem(self) -> None:
        for name in sorted(set(self._episodes[0]) - _NOT_MEASURED) if self._episodes else ():
            self.logger.record(f"{self.prefix}/{name}", float(np.mean([one[name] for one in self._episodes])))

    def _draw(self) -> None:
        subsystem = self.env.proxies[0].subsystem
        if isinstance(subsystem, LfsVolumes):
            picture = Image(draw_segments(subsystem, 0), "HWC")
            self.logger.record("figures/segment_map", picture, exclude=_NOT_IN_TEXT)
        if isinstance(subsystem, MonitoredPrograms):
            picture = Image(draw_program(subsystem, 0), "HWC")
            self.logger.record("figures/access_maps", picture, exclude=_NOT_IN_TEXT)
        self.logger.record("figures/mode_timeline", Figure(draw_timeline(self._timeline), close=False), _NOT_IN_TEXT)


def draw_timeline(timeline: list[tuple[int, float, float]]) -> MatplotlibFigure:
    """Draw the mode and the agent's share over the training.

    Args:
        timeline: Steps, mean mode over the instances (0..3), agent's share of the operations so far (0..1).
    """
    steps, modes, shares = zip(*timeline, strict=True) if timeline else ((), (), ())
    figure = MatplotlibFigure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.step(steps, modes, where="post", color="tab:blue")
    axes.set_yticks([int(mode) for mode in Mode], [mode.name.lower() for mode in Mode])
    axes.set_ylim(-0.2, 3.2)
    axes.set_xlabel("steps")
    share_axes = axes.twinx()
    share_axes.plot(steps, shares, color="tab:orange")
    share_axes.set_ylim(-0.05, 1.05)
    share_axes.set_ylabel("agent's share", color="tab:orange")
    return figure


def subsystem_prefix(env_id: str) -> str:
    """First word of the subsystem's tags: `lfs` for `kml/LfsTune-v0`."""
    name = env_id.rpartition("/")[2].partition("-")[0]
    return "".join(letter if not letter.isupper() else f" {letter}" for letter in name).split()[0].lower()


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b: value`, with values that TensorBoard can show."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return result
