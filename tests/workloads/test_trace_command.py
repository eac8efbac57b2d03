"""The command line: describe, convert, formats, and one-line errors with exit status 2."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kml_envs.errors import UserError
from kml_envs.files import is_stream
from kml_envs.workloads import describe_requests, iterate_requests, read_trace
from kml_envs.workloads.__main__ import main

TRACE = "time,op,offset,size\n0,w,0,8192\n1,w,0,4096\n2,r,40960,4096\n3,trim,0,4096\n4,w,0,4096\n"


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text(TRACE)
    return path


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "kml_envs.workloads", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_describe_counts(trace):
    description = describe_requests("small", iterate_requests(trace))
    assert (description.requests, description.reads, description.writes, description.passed_over) == (4, 1, 3, 1)
    assert (description.blocks_read, description.blocks_written) == (1, 4)
    assert (description.footprint_blocks, description.written_footprint_blocks) == (3, 2)
    assert description.overwrite_ratio == pytest.approx(0.5)
    assert description.writes_per_block == pytest.approx(2.0)
    assert description.hottest["10%"] == pytest.approx(0.75)
    assert description.duration_s == pytest.approx(4.0)
    assert description.write_sizes.histogram == {1: pytest.approx(2 / 3), 2: pytest.approx(1 / 3)}
    assert description.write_sizes.median_blocks == 1
    assert description.suggested_segments == {64: 1, 512: 1}
    assert description.passes == 3


def test_describe_is_the_same_in_pieces_and_in_memory(tmp_path, monkeypatch):
    from kml_envs.workloads import describe
    from kml_envs.workloads.formats import text

    path = tmp_path / "trace.csv"
    path.write_text("time_us,op,offset,size\n" + "".join(f"{i},w,{i * i % 97 * 4096},12288\n" for i in range(500)))
    whole = describe_requests("trace", read_trace(path))
    monkeypatch.setattr(text, "CHUNK_BYTES", 300)
    assert describe_requests("trace", iterate_requests(path)) == whole
    assert describe.describe_requests is describe_requests


def test_describe_prints_text_and_json(trace, capsys):
    assert main(["describe", str(trace)]) == 0
    text = capsys.readouterr().out
    assert "requests          4 (25.0% reads, 75.0% writes), 1 other records passed over" in text
    assert "suggested volume  2 blocks = 1 segments of 64 or 1 segments of 512 blocks" in text
    assert main(["describe", str(trace), "--json", "--block-bytes", "8192"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == "plain"
    assert facts["blocks_written"] == 3
    assert facts["write_sizes"]["histogram"] == {"1": 1.0}


def test_describe_takes_bundled_traces_by_name(capsys):
    assert main(["describe", "lmdb-transactions", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["writes"], facts["blocks_written"]) == ("lmdb-transactions", 142_847, 168_300)
    with pytest.raises(UserError, match="--limit: is for files, and lmdb-transactions is a bundled trace"):
        main(["describe", "lmdb-transactions", "--limit", "3"])


def test_describe_of_a_trace_without_writes_suggests_no_volume(tmp_path, capsys):
    path = tmp_path / "reads.csv"
    path.write_text("time,op,offset,size\n0,r,0,8192\n")
    assert main(["describe", str(path)]) == 0
    assert "none: the trace holds no writes" in capsys.readouterr().out


def test_sampling_that_leaves_nothing_is_said(trace):
    with pytest.raises(UserError, match="holds no requests"):
        main(["describe", str(trace), "--sample", "1e-9"])


def test_formats_lists_every_format(capsys):
    assert main(["formats"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 14


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_convert_writes_a_plain_trace_that_reads_the_same(trace, tmp_path, suffix):
    output = tmp_path / f"converted.csv{suffix}"
    assert main(["convert", str(trace), str(output)]) == 0
    before, after = read_trace(trace), read_trace(output)
    assert after.first_block.tolist() == before.first_block.tolist()
    assert after.time_us.tolist() == before.time_us.tolist()
    assert main(["convert", str(trace), str(output), "--dense"]) == 0
    assert read_trace(output).first_block.tolist() == [0, 0, 2, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, "small.csv"])


def test_a_failed_conversion_leaves_nothing_behind(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(TRACE + "5,w,0\n")
    with pytest.raises(UserError, match="line 7: 4 fields expected, found 3"):
        main(["convert", str(path), str(tmp_path / "out.csv")])
    with pytest.raises(UserError, match="no such file"):
        main(["convert", str(path), str(tmp_path / "absent" / "out.csv"), "--limit", "1"])
    assert [each.name for each in tmp_path.iterdir()] == ["bad.csv"]


def test_devices_side_by_side_can_be_read_again(tmp_path):
    path, output = tmp_path / "volumes.csv", tmp_path / "out.csv"
    path.write_text("".join(f"{row % 200},W,{row % 7 * 4096},8192,{row}\n" for row in range(1000)))
    assert main(["convert", str(path), str(output), "--device", "all"]) == 0
    before, after = read_trace(path, device="all", dense=True), read_trace(output, dense=True)
    assert after.first_block.tolist() == before.first_block.tolist()
    assert read_trace(output).first_block.max() < 200 * 8
    path.write_text("".join(f"{row},W,{1 << 51},8192,{row}\n" for row in range(3)))
    with pytest.raises(UserError, match="side by side are larger than 4 PiB"):
        main(["convert", str(path), str(output), "--device", "all"])


def test_a_pipe_is_written_to_and_not_replaced(trace, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        content = pool.submit(pipe.read_bytes)
        assert main(["convert", str(trace), str(pipe)]) == 0
        assert content.result(timeout=30).startswith(b"time_us,op,offset,size\n0,W,0,8192\n")
    assert pipe.is_fifo()


def test_standard_output_is_no_file_to_be_replaced(tmp_path):
    assert is_stream(Path("/dev/stdout")) and is_stream(Path("/dev/null"))
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("file", "link", "absent", "x" * 300, "."):
        assert not is_stream(tmp_path / name)


def test_names_that_are_too_long_are_told_in_one_line(trace, tmp_path):
    with pytest.raises(UserError, match="file name too long"):
        main(["describe", "x" * 5000])
    with pytest.raises(UserError, match="file name too long"):
        main(["convert", str(trace), str(tmp_path / ("x" * 300))])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ", line 1: the file is empty"),
        (TRACE + "5,w,0,", ", line 7: size is not a whole number"),
        (TRACE + "1,w,0,4096\n", ", line 7: not in order of time"),
    ],
)
def test_bad_files_end_in_one_line_and_status_two(tmp_path, content, reason):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    finished = run("describe", path)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith(f"error: {path}{reason}")
    assert finished.stderr.count("\n") == 1


def test_the_package_imports_no_compiler():
    code = "import sys, kml_envs.workloads; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
