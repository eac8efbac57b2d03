"""Freed memory stays with the process: whoever asks for as much again does not wait for the kernel."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
from agents.allocator import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):  # two blocks at a time, so that the one in use is not always the same
        first, second = np.empty(300_000), np.empty(300_000)
        first.fill(1.0)
        second.fill(1.0)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
page_faults()
print(page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_blocks_of_some_mebibytes_are_not_faulted_in_again():
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100  # of 50 times 1,172 pages
