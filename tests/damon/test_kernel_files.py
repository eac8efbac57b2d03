"""What is read of a kernel's files under /proc, against a tree in a folder."""

import pytest
from fake_proc import FakeProc

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
