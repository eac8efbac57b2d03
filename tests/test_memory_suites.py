"""Memory workloads by name, and the suites they are in."""

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.memory_suites import make_memory_workload, make_memory_workloads, memory_suites, memory_workload_names
from kml_envs.workloads.memory_workloads import GIB, MIB, SCENARIOS, scenario


def same(first, second):
    return all(np.array_equal(one, other) for one, other in zip(first.table, second.table, strict=True))


def test_splits_are_disjoint():
    sets = {split: set(memory_suites()[f"memory-synthetic-{split}"]) for split in ("train", "validation", "held-out")}
    names = [name for chosen in sets.values() for name in chosen]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("suite", sorted(memory_suites()))
def test_every_workload_of_a_suite_is_made_under_its_name(suite):
    for workload in make_memory_workloads(suite):
        assert workload.name in memory_suites()[suite]
        assert workload.table.size % 4096 == 0
        assert workload.limit_bytes <= workload.table.size


def test_seeds_decide():
    for kind in ("bursts-2", "mixture-2", "zipf-memory-0.9-2"):
        assert same(make_memory_workload(f"{kind}-5"), make_memory_workload(f"{kind}-5"))
        assert not same(make_memory_workload(f"{kind}-5"), make_memory_workload(f"{kind}-6"))


def test_the_needle_is_200_mib_of_160_gib():
    table = scenario("needle").table
    assert table.size == 160 * GIB and (table.end - table.start).sum() == 200 * MIB


def test_a_burst_crosses_the_limit():
    workload = scenario("pressure-spike")
    touched = {int((workload.table.end - workload.table.start)[low:high].sum()) for low, high in ((0, 2), (2, 5))}
    assert min(touched) < workload.limit_bytes < max(touched)


def test_the_fitting_hot_set_has_fewer_pages_than_a_tlb():
    table = scenario("translation-fit").table
    hot = table.rate == table.rate.max()
    assert (table.end - table.start)[hot].sum() / 4096 < 2048


def test_bursts_hold_parts_in_use_always_and_never():
    table = make_memory_workload("bursts-4-2").table
    phases = table.phase_end_us.size
    starts, phases_in_use = np.unique(table.start, return_counts=True)
    assert (phases_in_use == phases).sum() >= 192 / 16
    assert 192 / 8 < 192 - starts.size < 192 / 2


def test_zipf_rates_follow_the_power_of_their_rank():
    rates = np.sort(make_memory_workload("zipf-memory-0.9-4-3").table.rate)[::-1]
    assert rates == pytest.approx(400.0 * np.arange(1, rates.size + 1) ** -0.9)


def test_unknown_names_are_told_with_what_is_accepted():
    with pytest.raises(UserError, match=r"unknown memory workload 'needel'.*Did you mean 'needle'"):
        make_memory_workload("needel")
    with pytest.raises(UserError, match="1 to 4096 GiB"):
        make_memory_workload("bursts-0-1")
    with pytest.raises(UserError, match="exponent of 0 to 5"):
        make_memory_workload("zipf-memory-6-1-1")
    with pytest.raises(UserError, match="unknown memory workload"):
        make_memory_workload("turns-" + "9" * 5000 + "-1")
    with pytest.raises(UserError, match="no workload"):
        memory_workload_names([])
    assert set(SCENARIOS) <= set(memory_workload_names(sorted(SCENARIOS)))
