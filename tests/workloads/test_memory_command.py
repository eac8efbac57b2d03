"""The command line on memory workloads, and what it says of them."""

import json
from pathlib import Path

import pytest

from kml_envs.workloads.__main__ import main
from kml_envs.workloads.access import build_table
from kml_envs.workloads.describe_memory import describe_accesses
from kml_envs.workloads.masim import CONFIGURATIONS

PAGE = Path(__file__).parents[2] / "docs" / "memory-workloads.md"
MIB = 1 << 20


@pytest.mark.parametrize("command", [["suites", "--memory"], ["programs"]])
def test_the_page_lists_what_the_command_prints(command, capsys):
    assert main(command) == 0
    assert capsys.readouterr().out in PAGE.read_text(encoding="utf-8")


def test_workloads_and_files_are_described(capsys):
    for what in ("needle", "bursts-4-2", str(CONFIGURATIONS / "zigzag.cfg")):
        assert main(["describe", what, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["size_bytes"] > 0 and 0 <= found["found_share"] <= found["touched_share"] <= 1
    assert main(["describe", "stairs"]) == 0
    assert "11 phases in 72.0 s" in capsys.readouterr().out


def test_formats_of_memory_are_listed(capsys):
    assert main(["formats"]) == 0
    listed = capsys.readouterr().out
    for name in ("damo", "lackey", "accesses", "masim"):
        assert f"\n{name} " in listed


def test_shares_are_means_over_the_cycle():
    phases = [(3_000_000, [(0, MIB, 2.0, 0.0)]), (1_000_000, [(MIB, 2 * MIB, 0.0, 100_000.0)])]
    found = describe_accesses("t", build_table("t", phases, 4 * MIB))
    assert found.touched_share == 0.5
    assert found.idle_shares["1 s"] == pytest.approx(0.75)
    assert found.touches_per_s == pytest.approx(256 * (0.75 * 2 + 0.25 * 10))
    assert found.swept_share == pytest.approx(2.5 / 4)
    assert found.changed_share == 1.0
    assert found.found_share == pytest.approx(0.25 * (0.75 * 0.00995017 + 0.25 * 0.05))


def test_a_pattern_without_touches():
    found = describe_accesses("t", build_table("t", [(1000, [])], MIB))
    assert found.touches_per_s == found.touched_share == found.changed_share == 0
