"""Every trace format, from a tiny sample written by hand: recognised, read to the same requests, and told off."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.errors import UserError
from kml_envs.workloads import FORMATS, detect_format, read_trace

# All samples hold these four requests: write of 8 KiB at 4 KiB, read of 4 KiB at 0, write of 512 bytes at 16 KiB,
# write of 4 KiB at 6 KiB (which touches two blocks), at 0, 1, 1.5 and 2 seconds.
TIMES_US = [0, 1_000_000, 1_500_000, 2_000_000]
IS_WRITE = [True, False, True, True]
FIRST_BLOCK = [1, 0, 4, 1]
BLOCK_COUNT = [2, 1, 1, 2]

MSR = """\
128166372003061629,usr,0,Write,4096,8192,331
128166372013061629,usr,0,Read,0,4096,331
128166372018061629,usr,0,Write,16384,512,331
128166372023061629,usr,0,Write,6144,4096,331
"""
ALIBABA = """\
3,W,4096,8192,1577808000000000
3,R,0,4096,1577808001000000
3,W,16384,512,1577808001500000
3,W,6144,4096,1577808002000000
"""
TENCENT = """\
1538323200,8,16,1,1063
1538323201,0,8,0,1063
1538323201,32,1,1,1063
1538323202,12,8,1,1063
"""
BLKPARSE = """\
  8,0    1        1     0.500000000   697  Q  WS 8 + 16 [kworker/u8:0]
  8,0    1        2     0.500000100   697  G  WS 8 + 16 [kworker/u8:0]
  8,0    1        3     0.500000200     0  m   N cfq697 insert_request
  8,0    1        4     1.000000000   697  D  WS 8 + 16 [kworker/u8:0]
  8,0    1        5     1.100000000     0  C  WS 8 + 16 [0]
  8,0    1        6     1.200000000   697  D   D 800 + 16 [a b]
  8,0    1        7     1.300000000   697  D  FN [jbd2/sda1-8]
  8,0    1        8     1.400000000   697  D   R 36 (12 00 00 00 24 00 ..) [udev]
  8,0    1        9     2.000000000   697  D  RA 0 + 8 [two words]
  8,0    1       10     2.500000000   697  D FWFS 32 + 1 [kworker/u8:0]
  8,0    0       11     3.000000000   697  D   W 12 + 8 [kworker/u8:0]
CPU0 (8,0):
 Reads Queued:           1,       36KiB\t Writes Queued:           3,     2092KiB
Total (8,0):

Throughput (R/W): 0KiB/s / 0KiB/s
"""
FIO2 = """\
fio version 2 iolog
/dev/sdb add
/dev/sdb open
/dev/sdb write 4096 8192
/dev/sdb wait 1000000 0
/dev/sdb read 0 4096
/dev/sdb wait 500000
/dev/sdb trim 0 4096
/dev/sdb sync 0 0
/dev/sdb write 16384 512
/dev/sdb wait 500000
/dev/sdb write 6144 4096
/dev/sdb close
"""
FIO3 = """\
fio version 3 iolog
0 /dev/sdb add
2 /dev/sdb open
7 /dev/sdb write 4096 8192
1000007 /dev/sdb read 0 4096
1000009 /dev/sdb trim 0 4096
1500007 /dev/sdb write 16384 512
2000007 /dev/sdb write 6144 4096
2000010 /dev/sdb close
"""
DISKSIM = """\
13.191135 0 8 16 0
1013.191135 0 0 8 1
1513.191135 0 32 1 2
2013.191135 0 12 8 a
"""
SSDSIM = """\
4851300 1 8 16 0
1004851300 1 0 8 1
1504851300 1 32 1 0
2004851300 1 12 8 0
"""
PLAIN = """\
time,op,offset,size
3.25,W,4096,8192
4.25,read,0,4096
4.5,trim,0,4096
4.75,w,16384,512
5.25,Write,6144,4096
"""
WISCSEE = """\
39949 D write 4096 8192 0.1 0 True
0 C write 4096 8192 0.2 0.1 True
39949 D read 0 4096 1.1 0 False
39949 D discard 0 4096 1.2 0 False
39949 D write 16384 512 1.6 0 True
39949 D write 6144 4096 2.1 0 True
"""
TEXT = {
    "msr": MSR,
    "alibaba": ALIBABA,
    "tencent": TENCENT,
    "blkparse": BLKPARSE,
    "fio": FIO3,
    "disksim": DISKSIM,
    "ssdsim": SSDSIM,
    "plain": PLAIN,
    "wiscsee": WISCSEE,
}
COMMANDS = [(0x2A, 8192, 8), (0x28, 4096, 0), (0x8A, 512, 32), (0x0A, 4096, 12)]


def vscsi(version):
    records = []
    for serial, ((command, size, block), time_us) in enumerate(zip(COMMANDS, TIMES_US, strict=True)):
        if version == 1:
            records.append(struct.pack("<IIIHHQQ", serial, size, 1, command, 0x100, block, 77 + time_us))
        else:
            records.append(struct.pack("<HHIIIQQQ", command, 0x200, serial, size, 1, block, 77 + time_us, 5))
    return b"".join(records)


SAMPLES = {name: text.encode() for name, text in TEXT.items()} | {
    "fio 2": FIO2.encode(),
    "vscsi 1": vscsi(1),
    "vscsi 2": vscsi(2),
}


def write(tmp_path, content, name="trace"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_is_recognised_and_reads_to_the_same_requests(tmp_path, name):
    path = write(tmp_path, SAMPLES[name])
    assert detect_format(path) == name.split()[0]
    trace = read_trace(path)
    assert trace.time_us.tolist() == ([0, 1_000_000, 1_500_000, 2_000_000])
    assert trace.is_write.tolist() == IS_WRITE
    assert trace.first_block.tolist() == FIRST_BLOCK
    assert trace.block_count.tolist() == BLOCK_COUNT
    assert [array.dtype for array in (trace.time_us, trace.is_write, trace.first_block, trace.block_count)] == [
        np.int64,
        np.bool_,
        np.int64,
        np.int32,
    ]


@pytest.mark.parametrize("name", TEXT)
def test_line_ends_of_other_systems_blank_lines_and_a_missing_last_newline_are_read(tmp_path, name):
    text = TEXT[name].rstrip("\n").replace("\n", "\r\n\r\n")
    assert read_trace(write(tmp_path, text)).first_block.tolist() == FIRST_BLOCK


def test_the_samples_cover_every_format():
    assert {name.split()[0] for name in SAMPLES} == set(FORMATS)


def test_headings_of_published_csv_files_are_passed_over(tmp_path):
    for heading, text in (
        ("Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n", MSR),
        ("device_id,opcode,offset,length,timestamp\n", ALIBABA),
        ("Timestamp,Offset,Size,IOType,VolumeID\n", TENCENT),
    ):
        assert read_trace(write(tmp_path, heading + text)).first_block.tolist() == FIRST_BLOCK


def test_requests_of_one_second_are_spread_evenly_over_it(tmp_path, monkeypatch):
    from kml_envs.workloads.formats import text

    seconds = [10] * 4 + [11] + [13] * 5
    content = "".join(f"{second},0,8,1,1\n" for second in seconds)
    expected = [0, 250_000, 500_000, 750_000, 1_000_000, *range(3_000_000, 4_000_000, 200_000)]
    assert read_trace(write(tmp_path, content)).time_us.tolist() == expected
    monkeypatch.setattr(text, "CHUNK_BYTES", 20)  # a second that runs over the end of a chunk
    assert read_trace(write(tmp_path, content)).time_us.tolist() == expected


def test_a_chunk_that_begins_with_blkparses_summary_holds_no_events(tmp_path, monkeypatch):
    from kml_envs.workloads.formats import text

    events, summary = BLKPARSE.split("CPU0", 1)
    path = tmp_path / "trace.txt"
    path.write_text("CPU0" + summary)
    with pytest.raises(UserError, match="holds no read or write requests"):
        read_trace(path, format="blkparse")
    path.write_text(BLKPARSE)
    whole = read_trace(path, device="all")
    monkeypatch.setattr(text, "CHUNK_BYTES", len(events))
    assert read_trace(path, device="all").first_block.tolist() == whole.first_block.tolist()


def test_blkparse_reads_the_action_asked_for(tmp_path):
    trace = read_trace(write(tmp_path, BLKPARSE), action="Q")
    assert trace.first_block.tolist() == [1]
    assert trace.block_count.tolist() == [2]


def test_columns_of_a_plain_trace_may_come_in_any_order_with_others_and_in_other_units(tmp_path):
    for unit, scale in (("time_ns", 1e9), ("time_us", 1e6), ("time_ms", 1e3), ("time_s", 1), ("time", 1)):
        text = f"size, Note, OP,{unit},offset\n4096,x,W,{int(scale)},8192\n4096,,R,{int(2 * scale)},0\n"
        trace = read_trace(write(tmp_path, text))
        assert trace.time_us.tolist() == [0, 1_000_000]
        assert trace.first_block.tolist() == [2, 0]


def test_times_with_an_exponent_and_beyond_microseconds_are_exact(tmp_path):
    text = "time,op,offset,size\n1e-6,w,0,1\n0.0000029999999999999999,w,0,1\n1234567890.123456789,w,0,1\n"
    assert read_trace(write(tmp_path, text)).time_us.tolist() == [0, 1, 1234567890123455]


def test_fio_iolog_without_waits_arrives_at_once(tmp_path):
    text = "fio version 2 iolog\n/f add\n/f write 0 4096\n/f write 4096 4096\n"
    assert read_trace(write(tmp_path, text)).time_us.tolist() == [0, 0]


GARBLED = [
    ("msr", MSR + "128166372023061629,usr,0,Wri", 5, "7 fields expected, found 4 (the file ends inside this line)"),
    ("msr", MSR.replace("Read", "Reap"), 2, "Type is 'Reap', accepted are read, write"),
    ("msr", MSR.replace("16384", "-16384"), 3, "Offset is not a whole number of at most 18 digits: '-16384'"),
    ("msr", MSR.replace("16384", "9" * 18), 3, "the offset is beyond 4 PiB"),
    ("alibaba", ALIBABA.replace(",512,", ",,"), 3, "length is not a whole number"),
    ("alibaba", ALIBABA.replace(",512,", f",{10**11},"), 3, "the request is larger than 4 GiB"),
    ("tencent", TENCENT.replace(",32,1,1,", ",32,1,2,"), 3, "IOType is '2', accepted are 0, 1"),
    ("tencent", TENCENT.replace("1538323202", "9" * 19), 4, "Timestamp is not a whole number"),
    ("blkparse", BLKPARSE.replace("32 + 1", "32"), 10, "10 fields expected, found 9"),
    ("blkparse", BLKPARSE.replace("32 + 1", "32 - 1"), 10, "'sector + sectors' expected behind the flags"),
    ("blkparse", BLKPARSE.replace("12 + 8 [kworker/u8:0]\n", "12 + 8 [k]\nhello there\n"), 12, "6 fields expected"),
    ("blkparse", BLKPARSE.replace("CPU0 (8,0):", "a b c d e f"), 12, "neither an event nor blkparse's summary"),
    ("fio", FIO3.replace("trim", "trill"), 6, "action is 'trill', accepted are read"),
    ("fio", FIO3.replace("16384 512", "16384"), 7, "5 fields expected, found 4"),
    ("fio", FIO2.replace("wait 1000000 0", "wait"), 5, "at least 3 fields expected, found 2"),
    ("disksim", DISKSIM.replace("8 a", "8 g"), 4, "flags are not a hexadecimal number: 'g'"),
    ("disksim", DISKSIM.replace("1013.191135", "1013.19.1135"), 2, "arrival time is not a number: '1013.19.1135'"),
    ("ssdsim", SSDSIM.replace("1 32 1 0", "1 32 1"), 3, "5 fields expected, found 4"),
    ("plain", PLAIN.replace("read", "scan"), 3, "op is 'scan'"),
    ("plain", PLAIN.replace("4.5,", "nan,"), 4, "time is out of range: 'nan'"),
    ("plain", PLAIN.replace("4.5,", "x,"), 4, "time is not a number: 'x'"),
    ("plain", PLAIN.replace("4.5,", f"{10**17},"), 4, "time is too large"),
    ("plain", PLAIN.replace("4.75,w,", "4.75,w\x00\xff,"), 5, "op is"),
    ("wiscsee", WISCSEE.replace("16384 512 1.6", "16384 512"), 5, "8 fields expected, found 7"),
]


@pytest.mark.parametrize(("name", "text", "line", "reason"), GARBLED)
def test_garbled_text_names_file_line_and_reason(tmp_path, name, text, line, reason):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as raised:
        read_trace(path, format=name)
    message = str(raised.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert reason in message
    assert "\n" not in message


def test_a_garbled_line_behind_many_good_ones_is_counted_right(tmp_path, monkeypatch):
    from kml_envs.workloads.formats import text

    monkeypatch.setattr(text, "CHUNK_BYTES", 64)
    path = write(tmp_path, "time,op,offset,size\n" + "1,w,0,4096\n\n" * 100 + "1,w,zero,4096\n")
    with pytest.raises(UserError, match="line 202: offset is not"):
        read_trace(path)


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    from kml_envs.workloads.formats import text

    monkeypatch.setattr(text, "CHUNK_BYTES", 1 << 20)
    with pytest.raises(UserError, match="line 1: no line end within 1 MiB"):
        read_trace(write(tmp_path, b"x" * (1 << 22)), format="plain")


@pytest.mark.parametrize("version", [1, 2])
def test_truncated_and_garbled_vscsi_name_the_record(tmp_path, version):
    whole = vscsi(version)
    path = write(tmp_path, whole[:-3])
    with pytest.raises(UserError, match=r"record 4: the file ends after \d+ of the record's"):
        read_trace(path)
    size = len(whole) // 4
    path = write(tmp_path, whole[: 2 * size] + bytes(size) + whole[3 * size :])
    with pytest.raises(UserError, match="record 3: not a vscsi record of version"):
        read_trace(path)
    with pytest.raises(UserError, match="record 1: neither a vscsi record"):
        read_trace(write(tmp_path, PLAIN), format="vscsi")


def test_headers_that_are_missing_or_incomplete_are_named(tmp_path):
    with pytest.raises(UserError, match="line 1: the header must name one time column"):
        read_trace(write(tmp_path, "op,offset,size\n"), format="plain")
    with pytest.raises(UserError, match="line 1: the header must name the column 'size' once"):
        read_trace(write(tmp_path, "time,op,offset\n"), format="plain")
    with pytest.raises(UserError, match="line 1: neither 'fio version 2 iolog'"):
        read_trace(write(tmp_path, "fio version 9 iolog\n"), format="fio")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 2)), min_size=1, max_size=4),
    st.sampled_from([None, *FORMATS]),
)
def test_damage_of_any_kind_is_either_read_or_told_in_one_line(tmp_path_factory, name, damages, as_format):
    content = bytearray(SAMPLES[name])
    for position, byte, kind in damages:
        place = position % len(content)
        content[place : place + (kind != 1)] = bytes([byte]) * (kind != 2)
        content = content or bytearray(b"\n")
    path = write(tmp_path_factory.getbasetemp(), bytes(content), "damaged")
    try:
        trace = read_trace(path, format=as_format, device="all", sort=True)
    except UserError as error:
        assert str(path) in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert (np.diff(trace.time_us) >= 0).all()
        assert (trace.first_block >= 0).all()
        assert (trace.block_count > 0).all()
