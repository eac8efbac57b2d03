"""What policies are compared by: whether less or more of it is better, and how workloads are averaged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.statistics import FloatArray, Interval, geometric_mean


@dataclass(frozen=True)
class Measure:
    """A metric of an episode as a mark to compare by.

    Attributes:
        metric: A name of `agents.results.EVERYTHING`.
        title: What tables call it, with its unit.
        more_is_better: Whether more of it is better.
        ratio: Whether differences are told as ratios, and workloads are averaged by the geometric mean; else as they
            are, by the arithmetic mean: a score may be zero or negative.
        decimals: Of values in tables.
    """

    metric: str
    title: str
    more_is_better: bool = False
    ratio: bool = True
    decimals: int = 3

    @property
    def average(self) -> str:
        """What the average over workloads is called."""
        return "geometric mean" if self.ratio else "mean"

    def mean(self, values: FloatArray) -> FloatArray:
        """Average over the workloads, the last axis."""
        return geometric_mean(values) if self.ratio else np.asarray(values.mean(axis=-1))

    def change(self, values: FloatArray, against: FloatArray) -> FloatArray:
        """How much higher values are than others: as a share of these, or as a difference."""
        return np.asarray(values / against - 1.0 if self.ratio else values - against)

    def gain(self, values: FloatArray, against: FloatArray) -> FloatArray:
        """How much better values are than others: the change, positive where it is to the better."""
        return self.change(values, against) * (1.0 if self.more_is_better else -1.0)

    def best(self, values: FloatArray) -> FloatArray:
        """(W,) which row of (P, W) is best on each workload."""
        return np.asarray(values.argmax(axis=0) if self.more_is_better else values.argmin(axis=0))

    def value_text(self, value: float) -> str:
        """A value in a table."""
        return "-" if np.isnan(value) else f"{_rounded(value, self.decimals):.{self.decimals}f}"

    def change_text(self, change: float) -> str:
        """A change with its sign."""
        if self.ratio:
            return percent_text(change)
        return f"{_rounded(change, self.decimals):+.{self.decimals}f}"

    def gain_text(self, gain: Interval) -> str:
        """A gain or loss of the average in words, with its interval: `5.4 % [4.6, 5.8] lower in geometric mean`."""
        return f"{self.compared_text(gain)} in {self.average}"

    def compared_text(self, gain: Interval) -> str:
        """A gain or loss in words, with its interval: `5.4 % [4.6, 5.8] lower`."""
        ends = (gain.low, gain.high) if gain.estimate >= 0 else (-gain.high, -gain.low)
        scale, decimals, unit = (100.0, 1, " %") if self.ratio else (1.0, self.decimals, "")
        estimate, low, high = (
            f"{_rounded(scale * value, decimals):.{decimals}f}" for value in (abs(gain.estimate), *ends)
        )
        interval = "" if gain.low == gain.high else f" [{low}, {high}]"  # a single run has none
        higher = self.more_is_better == (gain.estimate >= 0)
        return f"{estimate}{unit}{interval} {'higher' if higher else 'lower'}"


def percent_text(share: float) -> str:
    """A share as a change in percent."""
    return f"{_rounded(100 * share, 1):+.1f} %"


def _rounded(value: float, decimals: int) -> float:
    return round(float(value), decimals) + 0.0  # no table shows -0.0


WRITE_AMPLIFICATION = Measure("write_amplification", "write amplification")
TAIL_LATENCY = Measure("latency_p999_ms", "p99.9 of the write latencies, in ms")
MEAN_SCORE = Measure("score", "score (more is better)", more_is_better=True, ratio=False, decimals=4)
