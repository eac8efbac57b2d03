"""Traces of single accesses as access patterns."""

import gzip

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.workloads.formats.memory_text import PageVisits, read_access_csv, read_lackey
from kml_envs.workloads.formats.stream import ByteStream
from kml_envs.workloads.memory_traces import (
    detect_memory_format,
    rate_of_share,
    read_memory_trace,
    scaled,
    visit_table,
)

LACKEY = """==12== Lackey, an example Valgrind tool
I  0023C790,2
 L 1ffeff7e58,8
 S 1ffeff7e50,8
I  0023D790,2
 M 0421C7C7,4
==12== Counted 1 call to main()
"""


def written(tmp_path, text, name="trace"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def all_visits(reader, path):
    chunks = list(reader(ByteStream(path)))
    return np.concatenate([chunk.time for chunk in chunks]), np.concatenate([chunk.page for chunk in chunks])


def test_lackey_counts_instructions_and_keeps_pages(tmp_path):
    path = written(tmp_path, LACKEY)
    assert detect_memory_format(path) == "lackey"
    time, page = all_visits(read_lackey, path)
    assert time.tolist() == [1, 1, 2, 2]
    assert page.tolist() == [0x23C, 0x1FFEFF7, 0x23D, 0x421C]


@pytest.mark.parametrize(
    "line, message",
    [
        ("X  0023C790,2", "line 3: .*as lackey prints it is expected"),
        (" L xyz,8", "line 3: .*expected"),
        (" L 1ffe", "line 3: 2 fields expected"),
        (" L ,8", "line 3: .*expected"),
    ],
)
def test_lines_that_are_not_lackeys_are_named(tmp_path, line, message):
    path = written(tmp_path, LACKEY.replace(" L 1ffeff7e58,8", line))
    with pytest.raises(UserError, match=message):
        all_visits(read_lackey, path)


def test_csv_takes_decimal_and_hexadecimal_addresses(tmp_path):
    for text in ("time_us,rw,address\n0,r,4096\n5,w,8192\n9,r,8200\n", "addr,time_us\n0x1000,0\n0X2000,5\n0x2008,9\n"):
        path = written(tmp_path, text)
        assert detect_memory_format(path) == "accesses"
        time, page = all_visits(read_access_csv, path)
        assert time.tolist() == [0, 5] and page.tolist() == [1, 2]


@pytest.mark.parametrize(
    "text, message",
    [
        ("time_us,addr\n5,1\n4,1\n", "line 3: the time goes back"),
        ("time_us,size\n5,1\n", "line 1: the header must name"),
        ("time_us,addr\n5,0x1\n6,0xg\n", "line 3: address is not a hexadecimal number"),
        ("time_us,addr\n5,1\n6,x\n", "line 3: address is not a"),
        ("time_us,addr\n5\n", "line 2: 2 fields expected"),
    ],
)
def test_csv_that_cannot_be_read_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        all_visits(read_access_csv, written(tmp_path, text))


def test_rates_are_the_share_of_samples_with_a_touch():
    time = np.arange(0, 1_000_000, 500)
    page = np.where(time // 10_000 % 4 == 0, 7, 1000)  # page 7 in every fourth sample, page 1000 in the others
    table = visit_table(
        [PageVisits(time[:900], page[:900]), PageVisits(time[900:], page[900:])],
        "t",
        sample_us=10_000,
        phase_us=200_000,
        extent_pages=1,
    )
    assert table.phase_end_us.tolist() == [200_000, 400_000, 600_000, 800_000, 1_000_000]
    assert table.size == 2 * 4096
    assert 1 - np.exp(-table.rate * 0.01) == pytest.approx(np.tile([0.25, 0.75], 5))


def test_a_page_touched_in_every_sample_has_a_finite_rate():
    assert rate_of_share(np.array([0.0, 1.0]), 20, 0.005) == pytest.approx([0.0, np.log(40) / 0.005])


def test_visits_tell_how_often_a_page_is_touched_that_is_in_every_sample():
    time = np.repeat(np.arange(0, 100_000, 100), 2)
    table = visit_table([PageVisits(time, np.tile([1, 2], 1000))], "t", sample_us=10_000, phase_us=100_000)
    assert table.rate == pytest.approx([1000 / 0.1])


def test_pauses_are_phases_without_touches():
    visits = [PageVisits(np.array([0, 350_000]), np.array([3, 3]))]
    table = visit_table(visits, "t", sample_us=10_000, phase_us=100_000)
    assert np.diff(table.first_range).tolist() == [1, 0, 0, 1]


def test_a_stretched_pattern_is_larger_and_slower():
    table = visit_table([PageVisits(np.array([0, 5]), np.array([1, 9]))], "t", sample_us=10, phase_us=10)
    wide = scaled(table, 100.0, 64)
    assert wide.size == 64 * table.size and wide.phase_end_us[-1] == 1000
    assert wide.rate == pytest.approx(table.rate / 100)
    for wrong in ((0.0, 1), (1e-300, 1), (1e300, 1), (1.0, 0), (1.0, 1 << 60), (float("nan"), 1)):
        with pytest.raises(UserError, match="factors"):
            scaled(table, *wrong)


def test_files_are_recognised_read_and_refused(tmp_path):
    path = tmp_path / "t.gz"
    path.write_bytes(gzip.compress(LACKEY.encode()))
    table = read_memory_trace(path, clock_per_s=1e6)
    assert table.size == 4 * 4096
    masim = written(tmp_path, "a, 8192\n\np\n10\na, 1, 64, 1\n", "m.cfg")
    assert read_memory_trace(masim).size == 8192
    with pytest.raises(UserError, match="chosen in a file of damo only, this is one of masim"):
        read_memory_trace(masim, target=1)
    with pytest.raises(UserError, match="not recognised as one of damo, lackey"):
        read_memory_trace(written(tmp_path, "hello\n", "x"))
    with pytest.raises(UserError, match="unknown format of memory accesses"):
        read_memory_trace(path, format="pin")
    for clock in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="instructions a second: a positive number"):
            read_memory_trace(path, clock_per_s=clock)
    with pytest.raises(UserError, match="a whole number of them"):
        read_memory_trace(path, sample_us=3, phase_us=10)
    with pytest.raises(UserError, match="there is no access"):
        read_memory_trace(written(tmp_path, "==1==,\n==2==\n", "y"), format="lackey")
