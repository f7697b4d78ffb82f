from __future__ import annotations

import pytest

from glrnn_hpc import logs
from glrnn_hpc.errors import DataError


def test_the_last_error_of_a_log_is_what_the_program_said_whatever_came_after(capfd: pytest.CaptureFixture[str]):
    logs.print_error(DataError("a.hdf5: there is no such file."))
    said = capfd.readouterr().err
    log = f"INFO started\nglrnn: an older one\n{said}srun: error: node1: task 0: Exited with exit code 2\n"
    assert logs.last_error(log) == "a.hdf5: there is no such file."


@pytest.mark.parametrize(
    ("log", "last"),
    [
        ("ImportError: no numpy\nbye\nsrun: error: node1: task 0: Exited with exit code 1\n", "ImportError: no numpy"),
        (
            "slurmstepd: error: execve(): x: No such file\nsrun: error: y\n",
            "slurmstepd: error: execve(): x: No such file",
        ),
        ("E0000 00:00:17.133228   289 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error\n", ""),
        ("one\ntwo\n\n", "two"),
        ("----\nNot enough slots\n----\n", "Not enough slots"),
        ("", ""),
    ],
)
def test_otherwise_it_is_the_last_line_that_speaks_of_an_error_or_the_last_one(log: str, last: str):
    assert logs.last_error(log) == last
