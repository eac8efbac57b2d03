"""Reading a trace file: compression, devices, order, options, and the two real traces."""

import errno
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
import zstandard

from kml_envs.errors import UserError
from kml_envs.workloads import block_writes, iterate_requests, read_trace
from kml_envs.workloads.formats.stream import PIECE_BYTES, ByteStream
from kml_envs.workloads.formats.text import read_lines

SHARED_TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
HEADER = "time_us,op,offset,size\n"
COMPRESSORS = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}


def write(tmp_path, content, name="trace.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def many_requests(count):
    rows = (
        f"{10 * row},{'w' if row % 3 else 'r'},{row * 7919 % 1000 * 4096},{4096 * (1 + row % 4)}"
        for row in range(count)
    )
    return (HEADER + "\n".join(rows) + "\n").encode()


def same(first, second):
    return all(
        np.array_equal(getattr(first, part), getattr(second, part))
        for part in ("time_us", "is_write", "first_block", "block_count")
    )


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed_files_are_recognised_by_content_and_read_the_same(tmp_path, suffix):
    text = many_requests(20_000)
    plain = read_trace(write(tmp_path, text))
    compress = COMPRESSORS[suffix]
    assert same(plain, read_trace(write(tmp_path, compress(text), f"trace.csv.{suffix}")))
    assert same(plain, read_trace(write(tmp_path, compress(text), "no-suffix")))
    middle = text.index(b"\n", len(text) // 2) - 3
    members = compress(text[:middle]) + compress(text[middle:])
    assert same(plain, read_trace(write(tmp_path, members)))
    assert read_trace(tmp_path / f"trace.csv.{suffix}").name == "trace"


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_truncated_and_damaged_compressed_files_name_a_line(tmp_path, suffix):
    compressed = COMPRESSORS[suffix](many_requests(100_000))
    with pytest.raises(UserError, match=r"trace.csv, line \d+: the compressed data ends early: the file is truncated"):
        read_trace(write(tmp_path, compressed[: len(compressed) // 2]))
    with pytest.raises(UserError, match=r"trace.csv, line \d+: the compressed data is damaged"):
        read_trace(write(tmp_path, compressed + b"not a member"))
    with pytest.raises(UserError, match=r"line 1: the compressed data ends early"):
        read_trace(write(tmp_path, compressed[:8]))


def test_small_chunks_read_the_same_as_large_ones(tmp_path, monkeypatch):
    from kml_envs.workloads.formats import text

    path = write(tmp_path, many_requests(2_000))
    whole = read_trace(path)
    monkeypatch.setattr(text, "CHUNK_BYTES", 1_000)
    assert len(list(iterate_requests(path))) > 10
    assert same(whole, read_trace(path))


def test_files_that_cannot_be_opened_or_hold_nothing(tmp_path):
    cases = {
        "no such file": tmp_path / "absent",
        "is a directory": tmp_path,
        "line 1: the file is empty": write(tmp_path, "", "empty"),
        "line 1: not recognised as one of vscsi": write(tmp_path, "lorem ipsum\n", "prose"),
        "line 1: holds no read or write requests": write(tmp_path, HEADER, "heading"),
    }
    cases["line 1: the file is empty"] = write(tmp_path, gzip.compress(b""), "empty.gz")
    for reason, path in cases.items():
        with pytest.raises(UserError) as raised:
            read_trace(path)
        assert reason in str(raised.value)
        assert str(path) in str(raised.value)


def test_requests_out_of_order_are_refused_or_sorted(tmp_path):
    path = write(tmp_path, HEADER + "5,w,0,4096\n7,w,4096,4096\n6,w,8192,4096\n7,w,12288,4096\n")
    with pytest.raises(
        UserError, match=r"line 4: not in order of time: 1 us earlier than .*kml_envs.workloads convert` --sort"
    ):
        read_trace(path)
    trace = read_trace(path, sort=True)
    assert trace.time_us.tolist() == [0, 1, 2, 2]
    assert trace.first_block.tolist() == [0, 2, 1, 3]


def test_order_is_checked_across_chunks(tmp_path, monkeypatch):
    from kml_envs.workloads.formats import text

    monkeypatch.setattr(text, "CHUNK_BYTES", 40)
    path = write(tmp_path, HEADER + "5,w,0,4096\n" * 9 + "4,w,0,4096\n")
    with pytest.raises(UserError, match="line 11: not in order of time"):
        read_trace(path)


DEVICES = "time_us,op,offset,size,device\n0,w,0,4096,sda\n1,w,4096,4096,sdb\n2,r,8192,4096,sda\n3,trim,0,4096,sdc\n"


def test_several_devices_must_be_chosen_from(tmp_path):
    path = write(tmp_path, DEVICES)
    with pytest.raises(
        UserError,
        match=r"holds several devices .*sda \(2 requests\), sdb \(1 requests\).*kml_envs.workloads convert` --device",
    ):
        read_trace(path)
    assert read_trace(path, device="sda").first_block.tolist() == [0, 2]
    assert read_trace(path, device="sdb").time_us.tolist() == [0]
    with pytest.raises(UserError, match="unknown device 'sdx': accepted are sda, sdb"):
        read_trace(path, device="sdx")


def test_all_devices_share_no_address(tmp_path):
    path = write(tmp_path, "0,W,0,4096,10\n1,W,0,4096,11\n0,W,4096,4096,12\n")
    trace = read_trace(path, device="all")
    assert len(set(trace.first_block.tolist())) == 3
    assert trace.first_block[0] == 0
    assert read_trace(path, device="all", dense=True).first_block.tolist() == [0, 1, 2]


def test_options_shape_the_trace(tmp_path):
    path = write(tmp_path, many_requests(3_000))
    whole = read_trace(path)
    assert len(read_trace(path, limit=17).time_us) == 17
    assert np.array_equal(read_trace(path, time_scale=2.5).time_us, np.rint(whole.time_us * 2.5))
    coarse = read_trace(path, block_bytes=65536)
    assert np.array_equal(coarse.first_block, whole.first_block // 16)
    dense = read_trace(path, dense=True)
    footprint = {
        block + place
        for block, count in zip(whole.first_block, whole.block_count, strict=True)
        for place in range(count)
    }
    assert dense.first_block[0] == 0
    assert int((dense.first_block + dense.block_count).max()) == len(footprint)
    assert int(dense.block_count.sum()) == int(whole.block_count.sum())


def test_sampling_keeps_all_accesses_of_about_the_asked_share_of_addresses(tmp_path):
    path = write(tmp_path, many_requests(3_000))
    blocks, times = block_writes(read_trace(path))
    kept, kept_times = block_writes(read_trace(path, sample=0.3, seed=5))
    stays = np.isin(blocks, kept)
    assert np.array_equal(blocks[stays], kept)
    assert np.array_equal(times[stays], kept_times)
    assert len(np.unique(kept)) == pytest.approx(0.3 * len(np.unique(blocks)), rel=0.2)
    assert not np.array_equal(kept, block_writes(read_trace(path, sample=0.3, seed=6))[0])


def test_a_byte_order_mark_is_passed_over(tmp_path):
    marked = read_trace(write(tmp_path, b"\xef\xbb\xbf" + many_requests(9)))
    assert same(marked, read_trace(write(tmp_path, many_requests(9))))


def test_a_compressed_file_that_ends_in_its_first_line_is_truncated(tmp_path):
    content = gzip.compress("".join(f"{hash(row)},W,{row * 7919},4096,1577808000\n" for row in range(999)).encode())
    with pytest.raises(UserError, match=r"trace\.csv, line 1: the compressed data ends early"):
        read_trace(write(tmp_path, content[:30]))


def test_a_name_longer_than_any_path_is_refused(tmp_path):
    # A column of strings takes as much memory for each line as for the longest.
    rows = f"0,W,0,4096,{'x' * 100_000}\n" + "0,W,0,4096,a\n" * 100_000
    with pytest.raises(UserError, match="line 2: a name of 100000 bytes: at most 4096"):
        read_trace(write(tmp_path, "time,op,offset,size,device\n" + rows))


def test_a_file_that_cannot_be_read_on_is_told_with_its_line(tmp_path, monkeypatch):
    path = write(tmp_path, many_requests(99_999))
    stream = ByteStream(path)
    monkeypatch.setattr(stream, "_file", FailingFile(path))
    with pytest.raises(UserError, match=r"trace.csv, line \d{4,}: input/output error"):
        list(read_lines(stream, ","))


class FailingFile:
    """A file on a disk that fails behind its beginning."""

    def __init__(self, path):
        self._file = open(path, "rb")
        self._file.seek(PIECE_BYTES)  # as far as the stream has read

    def read(self, count):
        if self._file.tell() > 4 * PIECE_BYTES:
            raise OSError(errno.EIO, "Input/output error")
        return self._file.read(count)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"format": "mrs"}, "unknown trace format 'mrs'.*Did you mean 'msr'"),
        ({"block_bytes": 1000}, "a power of two of at least 512"),
        ({"block_bytes": 1 << 70}, "a power of two .* at most 4 GiB"),
        ({"limit": 0}, "at least 1 request"),
        ({"sample": 0.0}, "more than 0 and at most 1"),
        ({"time_scale": float("nan")}, "a positive number"),
        ({"action": "C"}, "unknown action 'C': accepted are D, Q"),
        ({"action": "Q"}, "'plain' has no actions to choose from"),
    ],
)
def test_wrong_options_are_refused(tmp_path, option, reason):
    with pytest.raises(UserError, match=reason):
        read_trace(write(tmp_path, many_requests(3)), **option)


@pytest.mark.skipif(not SHARED_TRACES.is_dir(), reason=f"the real traces are not at {SHARED_TRACES}")
def test_the_virtual_machine_trace_holds_what_its_source_says():
    trace = read_trace(SHARED_TRACES / "libcachesim_cloudPhysicsIO.vscsi")
    blocks, _ = block_writes(trace)
    assert len(trace.time_us) == 113_872
    assert trace.is_write.mean() == pytest.approx(0.587, abs=5e-4)
    assert len(blocks) == 656_169
    assert len(np.unique(blocks)) == 208_696


@pytest.mark.skipif(not SHARED_TRACES.is_dir(), reason=f"the real traces are not at {SHARED_TRACES}")
def test_the_sqlite_trace_holds_what_its_source_says():
    trace = read_trace(SHARED_TRACES / "wiscsee_sqlitewal_blkparse-events-for-ftlsim.txt")
    blocks, _ = block_writes(trace)
    footprint = len(np.unique(blocks))
    assert int(trace.is_write.sum()) == 5_003
    assert footprint * 4096 / 2**20 == pytest.approx(8.5, abs=0.05)
    assert len(blocks) / footprint == pytest.approx(7.8, abs=0.05)
