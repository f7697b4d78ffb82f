from __future__ import annotations

import logging

import pytest

from glrnn_hpc import logs
from glrnn_hpc.errors import DataError


def test_the_log_is_spared_that_each_model_is_traced_and_no_other_warning(caplog: pytest.LogCaptureFixture):
    of_tensorflow = logging.getLogger("tensorflow")
    earlier = of_tensorflow.level
    try:
        logs.to_stderr()
        of_tensorflow.warning("%d out of the last 5 calls to f triggered tf.function retracing. Tracing is dear.", 5)
        of_tensorflow.warning("the disk is full")
    finally:
        of_tensorflow.setLevel(earlier)
    assert [record.getMessage() for record in caplog.records] == ["the disk is full"]


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
