"""What the tools say of themselves and of mistakes, without doing anything yet."""

import importlib
import subprocess

import pytest

from kml_envs.errors import UserError

TOOLS = (
    "action_bounds",
    "environment_pages",
    "monitor_price",
    "pacing_costs",
    "reclaim_thresholds",
    "record_accesses",
    "suite_digests",
    "victim_bounds",
)


@pytest.mark.parametrize("name", TOOLS)
def test_help_is_all_that_is_done(name, monkeypatch, capsys):
    tool = importlib.import_module(f"tools.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        tool.main()
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m tools.{name} ")
    assert " ".join(tool.__doc__.partition("\n")[0].split()) in " ".join(printed.split())


@pytest.mark.parametrize("name", TOOLS)
def test_unknown_options_are_refused(name, monkeypatch):
    monkeypatch.setattr("sys.argv", [name, *(["lfs-tune"] if name == "action_bounds" else []), "--nonsense"])
    with pytest.raises(UserError, match="unrecognized arguments: --nonsense"):
        importlib.import_module(f"tools.{name}").main()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--population", "2"), "'2' must be a whole number from 3 on"),
        (("--population", "-5"), "'-5' must be a whole number from 3 on"),
        (("--generations", "0"), "'0' must be a whole number from 1 on"),
    ],
)
def test_a_search_without_room_is_refused_before_anything_is_played(words, reason, monkeypatch):
    from tools import action_bounds

    monkeypatch.setattr(action_bounds, "evaluate", lambda *_: pytest.fail("something was played"))
    monkeypatch.setattr("sys.argv", ["action_bounds", "lfs-tune", *words])
    with pytest.raises(UserError, match=reason):
        action_bounds.main()


def test_programs_that_are_not_installed_are_told_before_one_is_recorded(monkeypatch):
    from tools import record_accesses

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    monkeypatch.setattr("shutil.which", lambda command: None if command == "sqlite3" else f"/usr/bin/{command}")
    monkeypatch.setattr("sys.argv", ["record_accesses", "sort-rows", "sqlite-queries"])
    with pytest.raises(UserError, match="sqlite-queries: 'sqlite3' is needed, and is not installed"):
        record_accesses.main()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("convert", "maildir", "--scratch", "nowhere"), "nowhere/maildir/strace.log: no such file"),
        (("summary", "--output", "nowhere"), "nowhere/index.json: no such file"),
    ],
)
def test_recordings_that_are_not_there_are_told_in_one_line(words, reason, tmp_path, monkeypatch):
    from tools.record_traces import __main__ as recorder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["record_traces", *words])
    with pytest.raises(UserError, match=reason):
        recorder.main()
