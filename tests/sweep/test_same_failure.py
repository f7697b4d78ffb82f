"""A sweep whose trials all fail for one cause outside of them: it stops, says so, and goes on when that is mended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from glrnn_hpc import cli, config, layout
from glrnn_hpc.errors import SweepError
from glrnn_hpc.launch import resume_sweep, run_sweep
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.summary.status import summarize
from tests.conftest import write_steps

OWN = """
from pathlib import Path

from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression


class Needy(PreprocessorTriaxialCompression):
    def prepare_arrays(self, seed=42):
        if not Path("calibration.csv").exists():
            raise FileNotFoundError("calibration.csv")
        return super().prepare_arrays(seed)
"""

REASON = "the first 3 trials failed with the same error: FileNotFoundError: calibration.csv"


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a sweep of five trials whose preprocessor needs a file that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_needs", raising=False)
    (tmp_path / "my_needs.py").write_text(OWN)
    keys = {"raw_data": str(write_steps(tmp_path / "a.hdf5")), "preprocessor": "my_needs:Needy", "window_size": 3}
    keys |= {"lstm_units": 4, "dense_units": 4, "epochs": 1, "seed": {"values": [1, 2, 3, 4, 5]}}
    (tmp_path / "s.yaml").write_text(config.dump_yaml({"method": "grid", "parameters": keys}))
    return tmp_path / "s.yaml"


def test_the_command_ends_with_status_2_and_resume_trains_what_failed_and_what_waits(
    sweep_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def glrnn(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["glrnn", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    assert glrnn("sweep", sweep_file.name, "--out", "sweep", "--cluster", "debug") == 2
    said = capsys.readouterr()
    assert f"sweep: the sweep was stopped: {REASON}\n" in said.err
    assert "--retry-failed` then goes on. With --keep-going it does so whatever fails." in said.err
    assert said.out == ""
    assert glrnn("status", "sweep") == 3
    assert f"cancelled: 3 failed, 2 waiting; 0% of the ranks' time in fit and evaluate ({REASON})" in (
        capsys.readouterr().out
    )
    Path("calibration.csv").touch()
    assert glrnn("resume", "sweep", "--retry-failed", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["state"], summary["reason"]) == ("finished", "every trial is final")
    assert (summary["trials"]["finished"], summary["trials"]["failed"], summary["retried"]) == (5, 0, 3)


def test_python_raises_and_with_keep_going_all_trials_are_tried(sweep_file: Path):
    with pytest.raises(SweepError, match=f"the sweep was stopped: {REASON}"):
        run_sweep(load_sweep(sweep_file), "sweep", cluster="debug")
    resume_sweep("sweep", keep_going=True)
    assert summarize(Path("sweep"))["trials"]["failed"] == 5
    assert layout.read_json(Path("sweep/state.json"))["keep_going"] is True
    run_sweep(load_sweep(sweep_file), "other", cluster="debug", keep_going=True)
    assert summarize(Path("other"))["trials"]["failed"] == 5
