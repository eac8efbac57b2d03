"""Arguments of environments of the wrong kind are told before anything is computed with them."""

import numpy as np
import pytest

from kml_envs.envs.damon_monitor import MonitorArguments
from kml_envs.envs.lfs_pacing import PacingArguments
from kml_envs.envs.lfs_tune import TuneArguments
from kml_envs.errors import UserError


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (TuneArguments, {"segments": "abc"}, "segments 'abc': must be a whole number"),
        (TuneArguments, {"segments": 2.5}, "segments 2.5: must be a whole number"),
        (TuneArguments, {"segments": True}, "segments True: must be a whole number"),
        (TuneArguments, {"utilisation": None}, "utilisation None: must be a finite number"),
        (TuneArguments, {"probes": 1}, "probes 1: must be true or false"),
        (TuneArguments, {"share": "half"}, "share 'half': must be a finite number or null"),
        (
            TuneArguments,
            {"age_thresholds": [0.1, "x"]},
            r"age_thresholds \[0.1, 'x'\]: must be a list, each member a finite number",
        ),
        (TuneArguments, {"age_thresholds": 0.1}, "age_thresholds 0.1: must be a list"),
        (TuneArguments, {"workloads": 3}, "workloads 3: must be text or a list, each member text"),
        (PacingArguments, {"latency_limit_ms": "x"}, "latency_limit_ms 'x': must be a finite number or null"),
        (MonitorArguments, {"builtin": 7}, "builtin 7: must be text"),
    ],
)
def test_wrong_kinds_are_told(kind, arguments, told):
    with pytest.raises(UserError, match=f"^{told}") as caught:
        kind(**arguments)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_whole_numbers_for_others_are_accepted():
    arguments = TuneArguments(segments=np.int64(64), utilisation=np.float32(0.5), warm_volumes=1, probes=np.bool_(True))
    assert (arguments.segments, arguments.warm_volumes) == (64, 1)
    assert TuneArguments(age_thresholds=np.array([0.1]), workloads=("uniform",)).workloads == ("uniform",)
