"""Percentiles of latencies from a volume's histogram: eight buckets an octave, see `writing.latency_bucket`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.lfs.volume import LATENCY_BUCKETS


def bucket_edges() -> NDArray[np.float64]:
    """(LATENCY_BUCKETS + 1,) float64, in nanoseconds: bucket k holds the latencies from edge k up to edge k + 1."""
    bucket = np.arange(LATENCY_BUCKETS + 1)
    exponent = bucket // 8
    return np.where(bucket < 8, bucket, 2.0**exponent * (1.0 + (bucket % 8) / 8.0)).astype(np.float64)


def percentile_ns(histogram: NDArray[np.int64], percent: float) -> NDArray[np.float64]:
    """The latency that so many percent of the writes do not exceed.

    Args:
        histogram: (..., LATENCY_BUCKETS) int64, writes by latency.
        percent: Above 0, up to 100.

    Returns:
        (...) float64, in nanoseconds, interpolated within the bucket; 0 where there are no writes.
    """
    # Few of the buckets are in use, and this runs whenever an episode ends.
    used = np.flatnonzero(histogram.reshape(-1, LATENCY_BUCKETS).any(axis=0))
    first, last = (used[0], used[-1] + 1) if used.size else (0, 1)
    edges = bucket_edges()[first : last + 1]
    histogram = histogram[..., first:last]
    cumulative = np.cumsum(histogram, axis=-1)
    wanted = cumulative[..., -1:] * (percent / 100.0)
    bucket = np.minimum((cumulative < wanted).sum(axis=-1), last - first - 1)
    within = np.take_along_axis(histogram, bucket[..., None], axis=-1)[..., 0]
    below = np.take_along_axis(cumulative, bucket[..., None], axis=-1)[..., 0] - within
    share = (wanted[..., 0] - below) / np.maximum(within, 1)
    found = edges[bucket] + np.clip(share, 0.0, 1.0) * (edges[bucket + 1] - edges[bucket])
    return np.where(cumulative[..., -1] > 0, found, 0.0)
