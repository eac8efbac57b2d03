"""What is read of a kernel's files under /proc, against a tree in a folder."""

import pytest
from fake_proc import FakeProc, zone_text

from kml_envs.damon.kernel_files import KernelFiles
from kml_envs.errors import UserError


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path)


def test_machine(proc, tmp_path):
    proc.machine(8 << 30, 3 << 30, 1 << 20, swapped=1 << 20, pressure=0.0123, stall_us=777, returned=12)
    found = KernelFiles(tmp_path).machine()
    assert found == (8 << 30, 3 << 30, 1 << 20, 1 << 20, pytest.approx(0.0123), 777, 12)
    with open(tmp_path / "vmstat", "a") as file:
        file.write("workingset_refault_file 30\n")
    assert KernelFiles(tmp_path).machine().returned_pages == 42


def test_process(proc, tmp_path):
    proc.process(7, 3 << 20, 1 << 20, faults=4)
    assert KernelFiles(tmp_path).process(7) == (3 << 20, 1 << 20, 4)


def test_processor_time(proc, tmp_path, monkeypatch):
    proc.kdamond(123_456_789)
    files = KernelFiles(tmp_path)
    assert files.processor_ns(42) == 123_456_789
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_CLK_TCK": 250}[name])
    proc.process(7, 0, 0)
    assert files.processor_ns(7) == 2_000_000_000  # 500 ticks


def test_ranges_of_memory(proc, tmp_path):
    files = KernelFiles(tmp_path)
    assert files.memory_ranges() == ((0x1000, 0xA0000), (0x100000, 0x40000000))
    (tmp_path / "iomem").write_text("00000000-00000000 : System RAM\n00000000-00000000 : System RAM\n")
    with pytest.raises(UserError, match="only root"):
        files.memory_ranges()


def test_memory_of_an_expander_stands_below_its_device(proc, tmp_path):
    with open(tmp_path / "iomem", "a") as file:
        file.write("40000000-7fffffff : CXL Window 0\n  40000000-7fffffff : dax0.0\n")
        file.write("    48000000-7fffffff : System RAM (kmem)\n80000000-8fffffff : System RAM\n")
        file.write("  80000000-800fffff : Kernel code\n")
    assert KernelFiles(tmp_path).memory_ranges()[2:] == ((0x48000000, 0x90000000),)


def test_nodes(proc, tmp_path):
    """What a node spans is that of its zones together; memory is what lies in it, without its holes."""
    proc.nodes(
        (0, [(0x1000, 0xFFF000, 0xF00000), (0x1000000, 0x3000000, 0x2000000)], 0x100000),
        (2, [(0x8000000, 0x1000000, 0x800000)], 0x200000),
    )
    files = KernelFiles(tmp_path)
    fast, slow = files.memory_nodes((0, 2))
    assert fast == (((0x1000, 0x4000000),), 0x2F00000, 0x100000)
    assert slow == (((0x8000000, 0x9000000),), 0x800000, 0x200000)
    assert fast.used_bytes == 0x2E00000
    (tmp_path / "iomem").write_text("00001000-00ffffff : System RAM\n02000000-087fffff : System RAM\n")
    assert files.node_ranges((0, 2)) == ((0x1000, 0x1000000), (0x2000000, 0x4000000), (0x8000000, 0x8800000))
    assert files.node_ranges((2,)) == ((0x8000000, 0x8800000),)


MEMORY = (0x100000, 0x100000, 0x100000)
ZONE = zone_text(0, "Normal", *MEMORY, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("", "no line 'Node N, zone NAME' in it"),
        (ZONE, "node 1: not there; nodes of the machine: 0"),
        (ZONE + zone_text(1, "Normal", 0, 0, 0, 0), "node 1: has no memory; nodes with memory: 0"),
        (ZONE.replace("  start_pfn:", "  pfn:"), "no line start_pfn of node 0, zone Normal"),
        (ZONE.replace("pages free", "pages"), "no line free of node 0, zone Normal"),
        (ZONE + zone_text(1, "Normal", *MEMORY, 0), "nodes 0 and 1 overlap"),
        (
            ZONE + zone_text(1, "Normal", 1 << 21, 1 << 20, 1 << 20, 0) + zone_text(2, "Normal", *MEMORY, 0),
            "0 and 2 overlap",
        ),
        (ZONE + zone_text(1, "Normal", 1 << 40, 1 << 20, 1 << 20, 0), "no range of System RAM in node 1"),
    ],
)
def test_nodes_that_are_missing_are_told_in_one_line(proc, tmp_path, text, said):
    if text is not None:
        (tmp_path / "zoneinfo").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        KernelFiles(tmp_path).node_ranges((0, 1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pressure/memory", None, "No such file"),
        ("pressure/memory", "full avg10=0.00\n", "no line 'some"),
        ("meminfo", "MemTotal: 5 kB\n", "no line MemFree"),
        ("vmstat", "pswpout 5\n", "no line pswpin"),
        ("sys/vm/min_free_kbytes", "many\n", "not a number"),
    ],
)
def test_what_is_missing_is_told_in_one_line(proc, tmp_path, name, text, said):
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said) as error:
        KernelFiles(tmp_path).machine()
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_kernel_threads_have_no_memory(proc, tmp_path):
    (tmp_path / "42" / "status").write_text("Name:\tkdamond.0\n")
    (tmp_path / "42" / "stat").write_text("42 (kdamond.0) S 2 0 0 0 -1 0 0 0 0 0 0 5 0 0 20 0\n")
    with pytest.raises(UserError, match="no line VmRSS"):
        KernelFiles(tmp_path).process(42)
    with pytest.raises(UserError, match="cannot be read"):
        KernelFiles(tmp_path).process(43)
