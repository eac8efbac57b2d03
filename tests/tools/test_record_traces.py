"""The chain from a strace log to block writes, on small inputs."""

import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.record_traces.applications import RECORDINGS
from tools.record_traces.block_model import BLOCK_BYTES, LARGEST_REQUEST_BLOCKS, FileSystem
from tools.record_traces.capture import capture
from tools.record_traces.convert import convert
from tools.record_traces.extents import Extent, FreeExtents
from tools.record_traces.file_operations import Action, FileOperation
from tools.record_traces.strace_log import Parent, file_operations, process_tree, split_arguments

SECOND = 1_000_000


# Reading strace's lines


def operations_of(log):
    lines = [line.strip() + "\n" for line in log.strip().splitlines()]
    return list(file_operations(lines, process_tree(lines)))


def test_arguments_split_at_outer_commas_only():
    assert split_arguments('3</d/a,b>, [{iov_base=""..., iov_len=8}, {iov_base=""..., iov_len=4}], 2, 4096') == [
        "3</d/a,b>",
        '[{iov_base=""..., iov_len=8}, {iov_base=""..., iov_len=4}]',
        "2",
        "4096",
    ]
    assert split_arguments('"/d/a,b", 0') == ['"/d/a,b"', "0"]


def test_plain_writes_move_the_position_and_seeking_sets_it():
    operations = operations_of("""
        7 100.000001 openat(AT_FDCWD</d>, "f", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 3</d/f>
        7 100.000002 write(3</d/f>, ""..., 10) = 10
        7 100.000003 write(3</d/f>, ""..., 10) = 6
        7 100.000004 lseek(3</d/f>, 4096, SEEK_SET) = 4096
        7 100.000005 write(3</d/f>, ""..., 5) = 5
        7 100.000006 pwrite64(3</d/f>, ""..., 4, 100) = 4
        7 100.000007 write(3</d/f>, ""..., 5) = -1 ENOSPC (No space left on device)
    """)
    assert [(operation.action, operation.offset, operation.length) for operation in operations] == [
        (Action.TRUNCATE, 0, None),
        (Action.WRITE, 0, 10),
        (Action.WRITE, 10, 6),
        (Action.WRITE, 4096, 5),
        (Action.WRITE, 100, 4),
    ]
    assert operations[1].time_us == 100_000_002


def test_open_flags_decide_on_appending_and_writing_through():
    operations = operations_of("""
        7 1.000000 openat(AT_FDCWD</d>, "log", O_WRONLY|O_APPEND) = 3</d/log>
        7 1.000000 write(3</d/log>, ""..., 10) = 10
        7 1.000000 openat(AT_FDCWD</d>, "data", O_RDWR|O_DSYNC) = 4</d/data>
        7 1.000000 pwritev(4</d/data>, [{iov_base=""..., iov_len=8}], 1, 4096) = 8
    """)
    assert operations == [
        FileOperation(SECOND, Action.WRITE, "/d/log", None, 10),
        FileOperation(SECOND, Action.WRITE_THROUGH, "/d/data", 4096, 8),
    ]


def test_interrupted_calls_are_joined_and_flushes_count_from_their_beginning():
    operations = operations_of("""
        7 1.000000 pwrite64(3</d/f>, ""..., 4096, 8192 <unfinished ...>
        8 2.000000 fsync(4</d/g> <unfinished ...>
        7 3.000000 <... pwrite64 resumed>) = 4096
        8 4.000000 <... fsync resumed>) = 0
    """)
    assert operations == [
        FileOperation(2 * SECOND, Action.FLUSH, "/d/g"),
        FileOperation(3 * SECOND, Action.WRITE, "/d/f", 8192, 4096),
    ]


def test_threads_share_and_forked_processes_copy():
    log = """
        1 1.0000000 no strace line
        1 1.000000 chdir("/d") = 0
        1 1.000000 openat(AT_FDCWD</d>, "f", O_WRONLY) = 3</d/f>
        2 1.000000 write(3</d/f>, ""..., 10) = 10
        1 1.000000 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, exit_signal=0} => {parent_tid=[2]}, 88) = 2
        3 1.000000 chdir("sub") = 0
        1 1.000000 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>
        1 1.000000 <... clone resumed>, child_tidptr=0x7f) = 3
        3 1.000000 unlink("x") = 0
        1 1.000000 unlink("x") = 0
        1 1.000000 write(3</d/f>, ""..., 10) = 10
    """
    assert process_tree(line.strip() for line in log.splitlines()) == {2: Parent(1, True), 3: Parent(1, False)}
    assert [(operation.path, operation.offset) for operation in operations_of(log)] == [
        ("/d/f", 0),
        ("/d/sub/x", 0),
        ("/d/x", 0),
        ("/d/f", 10),
    ]


def test_calls_that_name_files_by_path():
    operations = operations_of("""
        7 0.000000 renameat2(AT_FDCWD</d>, "a", 5</e>, "b", RENAME_NOREPLACE) = 0
        7 0.000000 linkat(AT_FDCWD</d>, "/d/a", AT_FDCWD</d>, "/d/b", 0) = 0
        7 0.000000 unlinkat(5</e>, "b", AT_REMOVEDIR) = 0
        7 0.000000 unlinkat(5</e>, "b", 0) = 0
        7 0.000000 fallocate(3</d/f>, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0, 8192) = 0
        7 0.000000 sync_file_range(3</d/f>, 4096, 8192, SYNC_FILE_RANGE_WRITE) = 0
    """)
    assert [(operation.action, operation.path, operation.target) for operation in operations[:3]] == [
        (Action.RENAME, "/d/a", "/e/b"),
        (Action.LINK, "/d/a", "/d/b"),
        (Action.UNLINK, "/e/b", ""),
    ]
    assert operations[3].action is Action.PUNCH
    assert operations[4] == FileOperation(0, Action.FLUSH, "/d/f", 4096, 8192)


# The block-address model


def pages(path, first, count, action=Action.WRITE, time_us=0):
    return FileOperation(time_us, action, path, first * BLOCK_BYTES, count * BLOCK_BYTES)


def flush(path, time_us=0):
    return FileOperation(time_us, Action.FLUSH, path)


def block_writes(file_system, *operations):
    return [
        (write.first_block, write.block_count) for operation in operations for write in file_system.apply(operation)
    ]


def test_a_page_keeps_its_block_and_is_overwritten_in_place():
    volume = FileSystem("/d")
    assert block_writes(volume, pages("/d/f", 0, 4), flush("/d/f")) == [(0, 4)]
    assert block_writes(volume, pages("/d/f", 1, 1), pages("/d/f", 3, 1), flush("/d/f")) == [(1, 1), (3, 1)]
    assert block_writes(volume, flush("/d/f")) == []


def test_bytes_are_rounded_out_to_pages_and_repeated_writes_reach_the_device_once():
    volume = FileSystem("/d")
    write = FileOperation(0, Action.WRITE, "/d/f", 4000, 200)
    assert block_writes(volume, write, write, flush("/d/f")) == [(0, 2)]
    assert volume.sizes() == {"/d/f": 4200}
    append = FileOperation(0, Action.WRITE, "/d/f", None, 10)
    assert block_writes(volume, append, flush("/d/f")) == [(1, 1)]
    assert volume.sizes() == {"/d/f": 4210}


def test_blocks_of_removed_files_are_used_again():
    volume = FileSystem("/d")
    block_writes(volume, pages("/d/old", 0, 3), flush("/d/old"), pages("/d/other", 0, 1), flush("/d/other"))
    assert block_writes(volume, FileOperation(0, Action.UNLINK, "/d/old")) == []
    assert block_writes(volume, pages("/d/new", 0, 2), flush("/d/new")) == [(0, 2)]
    assert block_writes(volume, pages("/d/large", 0, 2), flush("/d/large")) == [(4, 2)]


def test_what_is_removed_while_dirty_is_never_written():
    volume = FileSystem("/d")
    gone = [pages("/d/f", 0, 3), FileOperation(0, Action.UNLINK, "/d/f"), FileOperation(0, Action.FLUSH_ALL)]
    assert block_writes(volume, *gone) == []


def test_a_file_with_two_names_lives_until_both_are_gone():
    volume = FileSystem("/d")
    link = FileOperation(0, Action.LINK, "/d/f", target="/d/g")
    block_writes(volume, pages("/d/f", 0, 2), flush("/d/f"), link, FileOperation(0, Action.UNLINK, "/d/f"))
    assert volume.blocks_of("/d/g") == {0: 0, 1: 1}
    block_writes(volume, FileOperation(0, Action.UNLINK, "/d/g"))
    assert block_writes(volume, pages("/d/h", 0, 1), flush("/d/h")) == [(0, 1)]


def test_replacing_a_file_by_rename_writes_the_new_one_first():
    volume = FileSystem("/d")
    block_writes(volume, pages("/d/f", 0, 1), flush("/d/f"), pages("/d/f.tmp", 0, 2))
    assert block_writes(volume, FileOperation(0, Action.RENAME, "/d/f.tmp", target="/d/f")) == [(1, 2)]
    assert block_writes(volume, pages("/d/g", 0, 1), flush("/d/g")) == [(0, 1)]


def test_renaming_a_directory_moves_what_is_in_it():
    volume = FileSystem("/d")
    move = FileOperation(0, Action.RENAME, "/d/a", target="/d/b")
    block_writes(volume, pages("/d/a/f", 0, 1), pages("/d/ab", 0, 1), move)
    assert volume.sizes().keys() == {"/d/b/f", "/d/ab"}


def test_the_writeback_timer_writes_old_dirty_files():
    volume = FileSystem("/d")
    list(volume.apply(pages("/d/f", 0, 1)))
    list(volume.apply(pages("/d/g", 0, 1, time_us=20 * SECOND)))
    assert list(volume.apply(flush("/d/none", time_us=29 * SECOND))) == []
    assert list(volume.apply(flush("/d/none", time_us=44 * SECOND))) == [(30 * SECOND, 0, 1)]
    assert list(volume.apply(flush("/d/none", time_us=60 * SECOND))) == [(50 * SECOND, 1, 1)]


def test_write_through_and_ranges_leave_other_pages_dirty():
    volume = FileSystem("/d")
    assert block_writes(volume, pages("/d/f", 0, 1), pages("/d/f", 5, 1, Action.WRITE_THROUGH)) == [(0, 1)]
    assert block_writes(volume, pages("/d/f", 8, 1), pages("/d/f", 8, 1, Action.FLUSH)) == [(1, 1)]
    assert block_writes(volume, flush("/d/f")) == [(2, 1)]


def test_preallocated_blocks_are_contiguous_and_not_written():
    volume = FileSystem("/d")
    assert block_writes(volume, pages("/d/f", 0, 8, Action.ALLOCATE)) == []
    assert block_writes(volume, pages("/d/g", 0, 1), flush("/d/g")) == [(8, 1)]
    assert block_writes(volume, pages("/d/f", 4, 1), flush("/d/f")) == [(4, 1)]
    block_writes(volume, pages("/d/f", 0, 2, Action.PUNCH))
    assert block_writes(volume, pages("/d/h", 0, 2), flush("/d/h")) == [(0, 2)]


def test_files_that_grow_in_turns_stay_in_one_piece():
    volume = FileSystem("/d")
    for page in range(64):
        block_writes(volume, pages("/d/f", page, 1), flush("/d/f"), pages("/d/g", page, 1), flush("/d/g"))
    blocks = volume.blocks_of("/d/f")
    assert sum(blocks[page] != blocks[page - 1] + 1 for page in range(1, 64)) <= 7


def test_large_requests_are_split():
    volume = FileSystem("/d")
    count = LARGEST_REQUEST_BLOCKS + 1
    assert block_writes(volume, pages("/d/f", 0, count), flush("/d/f")) == [(0, count - 1), (count - 1, 1)]


def test_files_elsewhere_are_ignored():
    volume = FileSystem("/d")
    assert block_writes(volume, pages("/else/f", 0, 1), flush("/else/f"), pages("/d2/f", 0, 1)) == []


NAMES = st.sampled_from([f"/d/{letter}" for letter in "abcd"])
OPERATIONS = st.one_of(
    st.builds(
        pages,
        NAMES,
        st.integers(0, 40),
        st.integers(1, 20),
        st.sampled_from([Action.WRITE, Action.WRITE_THROUGH, Action.ALLOCATE, Action.PUNCH, Action.FLUSH]),
    ),
    st.builds(flush, NAMES),
    st.builds(
        lambda name, page: FileOperation(0, Action.TRUNCATE, name, page * BLOCK_BYTES), NAMES, st.integers(0, 40)
    ),
    st.builds(lambda name: FileOperation(0, Action.UNLINK, name), NAMES),
    st.builds(lambda name, to: FileOperation(0, Action.RENAME, name, target=to), NAMES, NAMES),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OPERATIONS, max_size=60))
def test_no_two_live_pages_share_a_block_and_every_write_goes_to_a_live_page(operations):
    volume = FileSystem("/d")
    for operation in operations:
        writes = list(volume.apply(operation))
        live = [block for path in volume.sizes() for block in volume.blocks_of(path).values()]
        assert len(live) == len(set(live))
        if operation.action is not Action.RENAME:
            written = {block for write in writes for block in range(write.first_block, sum(write[1:]))}
            assert written <= set(live)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.integers(1, 12)), max_size=60))
def test_the_free_map_agrees_with_a_set_of_blocks(steps):
    free, used, taken = FreeExtents(), set(), []
    for take, address, count in steps:
        if take:
            extent = free.take_at(address, count) if address % 2 else Extent(free.take_first_fit(count), count)
            if extent is None:
                assert address in used
                continue
            blocks = set(range(extent.first, sum(extent)))
            assert not blocks & used
            used |= blocks
            taken.append(extent)
        elif taken:
            extent = taken.pop(address % len(taken))
            free.release(extent)
            used -= set(range(extent.first, sum(extent)))
            with pytest.raises(ValueError, match="not all in use"):
                free.release(extent)
    lowest = free.take_first_fit(1)
    assert lowest == min(set(range(len(used) + 1)) - used)


# The whole chain


def test_recordings_of_one_application_are_in_one_split():
    splits = {}
    for recording in RECORDINGS.values():
        splits.setdefault(recording.application, set()).add(recording.split)
    assert all(len(split) == 1 for split in splits.values())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_recorded_program_writes_the_blocks_that_it_should(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    program = (
        "import os, sys\n"
        "f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "os.pwrite(f, bytes(8192), 4096); os.fsync(f)\n"
        "os.pwrite(f, b'x', 4096); os.fsync(f)\n"
    )
    try:
        subprocess.run(["strace", "--seccomp-bpf", "--follow-forks", "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("strace may not trace here")
    capture([sys.executable, "-c", program, str(data / "file")], tmp_path / "log")
    conversion = convert(tmp_path / "log", data)
    assert [(write.first_block, write.block_count) for write in conversion.writes] == [(0, 2), (0, 1)]
    assert conversion.wrong_sizes == []
