"""The command line of the server: what is wrong is told in one line, and leaves nothing behind."""

import pytest

from kml_envs.errors import UserError
from kml_envs.serve.command import main
from kml_envs.serve.recording import read_recording

ENV = ("--env", "readahead:tutorial/Readahead-v0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "-1"), "--seed -1: must not be negative"),
        (("--env", ".:x"), "environment '.:x': MODULE must be its full name, '.' is a relative one"),
        (("--env", "..kml_envs:x"), "'..kml_envs' is a relative one"),
        (("--env", "nothing:x"), "environment 'nothing:x': No module named 'nothing'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tutorial_module, tmp_path, words, message):
    with pytest.raises(UserError) as told:
        main(["serve", "--socket", str(tmp_path / "socket"), *ENV, *words])
    assert message in str(told.value) and "\n" not in str(told.value)


def test_a_recording_is_begun_only_once_its_server_can_be_reached(tutorial_module, tmp_path):
    decisions = tmp_path / "decisions"
    with pytest.raises(UserError, match=r"--socket .*: No such file"):
        main(["serve", "--socket", str(tmp_path / "no" / "socket"), "--record", str(decisions), *ENV])
    assert not decisions.exists()


def test_a_place_that_cannot_hold_a_recording_is_told_before_anything_is_decided(tutorial_module, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "decisions"):
        with pytest.raises(UserError, match=f"--record {place}: Not a directory"):
            main(["serve", "--socket", str(tmp_path / "socket"), "--record", str(place), *ENV])
    assert not (tmp_path / "socket").exists()


def test_a_served_recording_is_begun_before_its_first_part(server, tmp_path):
    one = server("--record", str(tmp_path / "decisions"))
    files = one.connect()  # which the socket takes before anybody answers
    files.read("statistics")
    files.close()
    assert (tmp_path / "decisions" / "metadata.json").is_file()
    assert one.stop() == 0
    assert len(read_recording(tmp_path / "decisions").columns["row"]) > 0
