"""Suites are disjoint, every workload in them can be made, and the page lists what the command prints."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.suites import make_workload, make_workloads, suites, workload_names

SPLITS = ("train", "validation", "held-out")
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "workloads.md"


@pytest.mark.parametrize("kind", ["", "paced-"])
def test_splits_are_disjoint_and_not_empty(kind):
    splits = [{name.partition("@")[0] for name in suites()[kind + split]} for split in SPLITS]
    assert all(splits)
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


def test_every_workload_can_be_made_and_drawn_from():
    from kml_envs.workloads.source import bind_workloads, materialize, start_source

    names = [name for kind in ("", "paced-") for split in SPLITS for name in suites()[kind + split]]
    workloads = make_workloads(names)
    assert [workload.name for workload in workloads] == names
    table = bind_workloads(workloads, 1000)
    for number in range(len(workloads)):
        drawn = materialize(start_source(table, number, 7), 3000)
        assert drawn.min() >= 0
        assert drawn.max() < 1000
        assert np.array_equal(drawn, materialize(start_source(table, number, 7), 3000))


def test_names_expand_without_repeats():
    assert workload_names(["zipf-0.99", "synthetic-held-out", "uniform"])[0] == "zipf-0.99"
    names = workload_names(["synthetic-held-out", "synthetic-held-out"])
    assert len(names) == len(set(names)) == len(suites()["synthetic-held-out"])


@pytest.mark.parametrize(
    "name",
    [
        "unifrom",
        "zipf-x",
        "hot-cold-2-0.1",
        "trace:/nowhere",
        "zipf-0",
        "uniform@bursts-10",
        "uniform@bursts-0-1-1",
        "uniform@slowed-2",
        "maildir@bursts-10-10-10",
        "uniform@sometimes",
        "zipf-1..2",
        "zipf-.",
        "maildir@slowed-1..2",
        "maildir@slowed-0",
        "uniform@bursts-nan-10-10",
        "copy-on-write-2-2-2",
        "copy-on-write-0-0.9-0.1",
        "copy-on-write-0.2-0.9-1",
        "checkpoints-0-0-0",
        "checkpoints-0.5-1-0.2",
        "checkpoints-101-0.9-0.1",
        "uniform@bursts-1-1-1e9",
        "uniform@bursts-1-0.0001-1",
        "uniform@bursts-1e300-1-1e300",
        "maildir@slowed-" + "9" * 400,
        "maildir@slowed-99999999999999",
    ],
)
def test_unknown_workloads_are_told_in_one_line(name):
    with pytest.raises(UserError) as caught:
        make_workload(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["copy-on-write-0.00001-0.9-0.99999", "checkpoints-0.00001-0.5-0.99999", "zipf-.5"])
def test_numbers_near_the_bounds_are_accepted(name):
    workload = make_workload(name)
    assert workload.trace is None or workload.trace.first_block.min() >= 0


@pytest.mark.parametrize(
    "name",
    [
        "hot-cold-0.5-0.99999999",
        "zipf-0.1234567",
        "copy-on-write-0.3000001-0.5-0.5",
        "uniform@bursts-1000000-2000-40",
        "maildir@slowed-8.0000001",
    ],
)
def test_a_workload_is_called_what_it_is_made_by(name):
    assert make_workload(name).name == name


def test_slowing_twice_multiplies():
    twice = make_workload("maildir@slowed-2@slowed-4")
    assert (twice.name, twice.time_scale) == ("maildir@slowed-2@slowed-4", 8.0)


def test_page_lists_what_the_command_prints():
    command = [sys.executable, "-m", "kml_envs.workloads", "suites"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed in PAGE.read_text(encoding="utf-8")
