"""Output on a terminal, which rich draws, and in a log, which has plain lines."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc.cli.tables import Table
from glrnn_hpc.launch import run_sweep
from tests.conftest import write_steps
from tests.sweep.sweeps import spec_of

STATUS = ("-m", "glrnn_hpc", "status")

PROGRESS = """
import logging, sys
from pathlib import Path
from glrnn_hpc import layout, logs
from glrnn_hpc.cli.progress import SweepProgress
from glrnn_hpc.study.study import SweepStudy

logs.to_stderr()
study = SweepStudy(layout.SweepFolder(Path(sys.argv[1])))
with SweepProgress(is_quiet=False) as report:
    report(study)
    logging.getLogger("glrnn_hpc").info("between")
    report(study)
logging.getLogger("glrnn_hpc").info("after")
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    return run_sweep(spec_of(write_steps(folder / "a.hdf5"), 3), folder / "sweep", n_workers=0).root


def in_log(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


def on_terminal(*arguments: object) -> str:
    """Run Python on a terminal of 100 columns; return what it prints, escape codes too."""
    ours, its = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, *map(str, arguments)], stdout=its, stderr=its, env=variables) as process:
        os.close(its)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: the terminal is closed
                part = b""
            if not part:
                break
            printed += part
    os.close(ours)
    assert process.returncode == 0, printed
    return printed.decode()


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_log_gets_a_plain_line_for_each_change_of_the_progress(sweep: Path):
    lines = ["0/3 trials done, 0 running", "INFO glrnn_hpc: between", "INFO glrnn_hpc: after"]
    assert in_log("-c", PROGRESS, sweep).splitlines() == lines


def test_a_terminal_gets_a_bar_and_the_lines_of_the_log_above_it(sweep: Path):
    printed = on_terminal("-c", PROGRESS, sweep)
    assert "\x1b[" in printed
    text = without_codes(printed)
    assert re.search(r"━+ 0/3 trials done, 0 running 0:00:00", text)
    assert "\rINFO glrnn_hpc: between\r\n" in text
    assert text.rstrip().splitlines()[-1] == "INFO glrnn_hpc: after"


def test_a_table_in_a_log_is_plain_and_as_wide_as_its_cells(sweep: Path):
    header, dashes, *rows = in_log(*STATUS, sweep).splitlines()
    assert header.split() == "trial state where epoch val_loss best val_loss epochs/min at most parameters".split()
    assert dashes == "-" * len(header)
    assert [row.split()[:3] for row in rows[:3]] == [[str(number), "waiting", "-"] for number in range(3)]
    assert rows[3] == "running: 3 waiting"
    wide = Table(["a", "b"], [["x" * 500, "[bold]"]]).as_text().splitlines()
    assert wide[2] == "x" * 500 + "  [bold]"


def test_a_table_on_a_terminal_is_drawn_by_rich_and_json_stays_json(sweep: Path):
    text = without_codes(on_terminal(*STATUS, sweep))
    assert re.search(r"^─+", text, re.MULTILINE)
    assert "running: 3 waiting" in text
    assert json.loads(on_terminal(*STATUS, sweep, "--json"))["trials"]["waiting"] == 3


def test_a_cell_on_a_terminal_is_never_taken_for_markup():
    program = (
        "from glrnn_hpc.cli.tables import Table, print_result;"
        "print_result(False, {}, [Table(['[red]a'], [['[bold]b[/bold]']]), '[link]c'])"
    )
    text = without_codes(on_terminal("-c", program))
    assert [line.strip() for line in text.splitlines()][::2] == ["[red]a", "[bold]b[/bold]"]
    assert text.splitlines()[-1].strip() == "[link]c"
