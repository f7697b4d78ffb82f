"""Processes of this host as /proc shows them."""

from __future__ import annotations

import subprocess
import sys
import time

from glrnn_hpc import processes


def test_children_are_found_by_their_command_as_long_as_they_run():
    child = subprocess.Popen(["sleep", "60"])
    try:
        end = time.monotonic() + 10
        while child.pid not in processes.children("sleep"):  # between fork and exec it has this process's name
            assert time.monotonic() < end
        assert child.pid not in processes.children("cat")
        assert processes.process(child.pid).is_alive()
    finally:
        child.kill()
        while processes.start_of(child.pid):  # killed, but not waited for: a zombie
            time.sleep(0.01)
        assert child.pid not in processes.children("sleep")
        child.wait()


def test_the_files_that_a_process_maps_are_named_once():
    files = processes.mapped_files(r"/libc[.-][^/]*$")
    assert len(files) == 1 or sys.platform != "linux"


def test_another_host_is_never_looked_up():
    far = processes.Process("elsewhere", 1, "?")
    assert far.is_alive()
    assert not processes.is_gone_here("elsewhere", 1)
