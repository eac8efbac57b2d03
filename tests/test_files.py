"""Whether a file can be written is found out by trying, and nothing is left of that."""

from pathlib import Path

import pytest

from kml_envs.errors import UserError
from kml_envs.files import check_writable, make_writable_folder, write_text


def test_a_file_that_can_be_written_stays_as_it_is(tmp_path):
    for name in ("new.json", "old.json", "link.json"):
        if name == "old.json":
            (tmp_path / name).write_text("mine")
        if name == "link.json":
            (tmp_path / name).symlink_to("nowhere.json")
        check_writable(tmp_path / name, "--json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "old.json"]
    assert (tmp_path / "old.json").read_text() == "mine"


def test_streams_are_not_replaced():
    check_writable(Path("/dev/null"), "--json")
    write_text(Path("/dev/null"), "results")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "is a folder, a file is needed"),
        ("nowhere/out.json", "No such file or directory"),
        ("file/out.json", "Not a directory"),
        ("x" * 250, "File name too long"),  # under the name that it is written with
        ("/proc/out.json", ""),  # not even by root
    ],
)
def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"--json {name}: {reason}") as error:
        check_writable(Path(name), "--json")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_made_if_files_can_be_written_into_it(tmp_path):
    make_writable_folder(tmp_path / "a" / "b", "--output")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "c", Path("/proc")):
        with pytest.raises(UserError, match=f"--output {folder}: "):
            make_writable_folder(folder, "--output")
