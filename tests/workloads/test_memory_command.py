"""The command line on memory workloads, and what it says of them."""

import json
from pathlib import Path

import pytest

from kml_envs.errors import UserError
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
    for what in (
        "needle",
        "bursts-4-2",
        "turns-3-7",
        "zipf-memory-0.9-3-1",
        f"accesses:{CONFIGURATIONS / 'stairs.cfg'}",
        str(CONFIGURATIONS / "zigzag.cfg"),
    ):
        assert main(["describe", what, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["size_bytes"] > 0 and 0 <= found["found_share"] <= found["touched_share"] <= 1
    assert main(["describe", "stairs"]) == 0
    assert "11 phases in 72.0 s" in capsys.readouterr().out
    assert main(["describe", "stairs", "--time-scale", "2"]) == 0
    assert "11 phases in 144.0 s" in capsys.readouterr().out
    with pytest.raises(UserError, match="1 to 4096 GiB"):
        main(["describe", "turns-0-1"])


@pytest.mark.parametrize(
    ("what", "option", "reason"),
    [
        ("needle", ("--limit", "5"), "--limit: is for block traces"),
        (str(CONFIGURATIONS / "zigzag.cfg"), ("--block-bytes", "512"), "--block-bytes: is for block traces"),
        ("needle", ("--target", "0"), "--target: needle is no record of damo"),
        (str(PAGE), ("--format", "plain", "--target", "0"), "--target: .* is no record of damo"),
    ],
)
def test_options_that_would_do_nothing_are_refused(what, option, reason):
    with pytest.raises(UserError, match=reason):
        main(["describe", what, *option])


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
