"""Log of a program: plain lines on stderr."""

from __future__ import annotations

import logging
import os
import re
import sys

_PROGRAM = "glrnn: "

#: Such as ``E0000 00:00:1795576877.133228   28924 cuda_platform.cc:52]``.
_OF_TENSORFLOW = re.compile(r"[IWEF]\d{4} \d\d:\d\d:")


def to_stderr() -> None:
    """Log to stderr from INFO on; libraries, whose messages seldom concern the user, from WARNING on."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in ("absl", "tensorflow", "optuna", "h5py"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("tensorflow").addFilter(_is_of_concern)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _is_of_concern(record: logging.LogRecord) -> bool:
    """Leave out that TensorFlow traces one function for each model: a command that loads many has to."""
    return "triggered tf.function retracing" not in record.getMessage()


def print_error(error: Exception) -> None:
    """Print an error that the user can correct: one message, no traceback."""
    sys.stderr.write(f"{_PROGRAM}{error}\n")
    sys.stderr.flush()


def last_error(text: str) -> str:
    """Return the line of a log that holds the cause of a failure, not its consequences; empty if there is no line.

    That is the last error that `print_error` printed, else the last line with the word error, except those of srun,
    which count the ranks that have ended; else the last line. Lines of TensorFlow's C++ are left out: they report GPUs
    that are not there. So are lines without a word, such as those that OpenMPI draws around its messages.
    """
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line) and not _OF_TENSORFLOW.match(line)]
    printed = [line.removeprefix(_PROGRAM) for line in lines if line.startswith(_PROGRAM)]
    errors = [line for line in lines if "error" in line.lower() and not line.startswith("srun: ")]
    return (printed or errors or lines or [""])[-1]
