"""Volumes whose space floats: the reference runs of SepBIT's simulator (fallfish/sepbit, default settings).

8,000,000,000 bytes in blocks of 4 KiB and segments of 4 MiB, a sequential fill and 12 million writes; write
amplification counts both. A segment is cleaned after a user write while more than .15 of the written slots are
garbage; candidates are sealed segments with at least as much. Age is time since a segment was sealed.
"""

import pytest
from steady_volumes import filled, write_amplification

from kml_envs.lfs.config import (
    CleaningConfig,
    CleaningPolicy,
    Geometry,
    LfsConfig,
    Placement,
    PlacementConfig,
    Trigger,
)
from kml_envs.workloads.synthetic import uniform, zipf

BLOCKS = 8_000_000_000 // 4096
SEGMENTS = 3400  # more than any of the runs needs
WRITES = 12_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workload", "placement", "policy", "amplification", "within"),
    [
        (uniform(), Placement.ONE_LOG, CleaningPolicy.GREEDY, 3.113, 0.02),
        (zipf(1.0), Placement.ONE_LOG, CleaningPolicy.GREEDY, 4.481, 0.02),
        (zipf(1.0), Placement.USER_GC_SPLIT, CleaningPolicy.COST_BENEFIT_SQRT, 2.158, 0.02),
        (zipf(1.0), Placement.SEPBIT, CleaningPolicy.COST_BENEFIT_SQRT, 1.945, 0.05),
        (zipf(1.0), Placement.DAC, CleaningPolicy.COST_BENEFIT_SQRT, 1.774, 0.05),
    ],
    ids=["uniform-greedy", "zipf-greedy", "zipf-split", "zipf-sepbit", "zipf-dac"],
)
def test_elastic_volumes_write_as_much_as_sepbits_simulator_says(workload, placement, policy, amplification, within):
    config = LfsConfig(
        Geometry(segments=SEGMENTS, blocks_per_segment=1024, utilisation=(BLOCKS + 0.5) / (SEGMENTS * 1024)),
        PlacementConfig(placement, classes=6),
        CleaningConfig(policy=policy, trigger=Trigger.GARBAGE_SHARE, garbage_share=0.15),
    )
    assert config.geometry.volume_blocks == BLOCKS
    state = filled(config, workload)
    write_amplification(state, WRITES)
    volume = state.volumes[0]
    assert volume["minimum_free"] > 0
    simulated = 1 + volume["moved"] / volume["user_writes"]
    print(f"{placement.name} {policy.name}: {simulated:.3f}, SepBIT's simulator {amplification}")
    assert simulated == pytest.approx(amplification, rel=within)
