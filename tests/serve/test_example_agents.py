"""The complete agents of the documentation, in a shell script and in C, as they stand there."""

import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


@pytest.mark.parametrize("name", ["agent.sh", "agent.c"])
def test_the_examples_are_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 100


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_agent_in_c_decides(server, tmp_path):
    program = tmp_path / "agent"
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", program, EXAMPLES / "agent.c"],
        check=True,
    )
    one = server("--speed", "0", "--deadline-ms", "5000")
    files = one.connect()
    subprocess.run([program, one.socket, "300"], check=True, timeout=60)
    assert int(one.statistics(files)["agent_operations"]) == 300
    # By the second of the three features, candidates are equal or out of reach: the mask alone decides nothing here.
    subprocess.run([program, one.socket, "10", "0", "0"], check=True, timeout=60)
    assert int(one.statistics(files)["verdict/accepted"]) == 310


def test_the_agent_in_a_shell_script_decides(server, tmp_path, needs_fuse):
    mount = tmp_path / "mount"
    one = server("--mount", str(mount), "--speed", "0", "--deadline-ms", "5000")
    files = one.connect(mount=mount)
    folder = mount / "tutorial-Readahead-v0" / "model"
    result = subprocess.run(
        ["sh", EXAMPLES / "agent.sh", folder, "20"], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(one.statistics(files)["agent_operations"]) == 20
    assert result.stdout.splitlines()[0].endswith("accepted")
    files.close()
    assert one.stop() == 0
