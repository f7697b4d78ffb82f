"""Data of a sweep that moved: read from --raw-data if they are the same, and missed with the file that names them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from glrnn_hpc import cli, config, layout
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.collector.sweep_data import read_data_from
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.launch import resume_sweep
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.worker import main, preemption
from tests.sweep.test_collect import spec_of, swept, write_data


@pytest.fixture
def sweep(tmp_path: Path) -> layout.SweepFolder:
    """Run the first of two trials, and move the data away."""
    data = write_data(tmp_path / "a.hdf5")
    folder = swept(tmp_path / "sweep", spec_of(data, learning_rate={"values": [1e-3, 3e-3]}, epochs=1), n_trials=1)
    (tmp_path / "new").mkdir()
    data.rename(tmp_path / "new/b.hdf5")
    return folder


def _glrnn(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["glrnn", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_data_that_moved_serve_collection_report_and_resume(
    sweep: layout.SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, kept = tmp_path / "new/b.hdf5", sweep.sweep.read_text()
    message = (
        rf"a\.hdf5: there is no such file\. The path is written in {sweep.sweep} \(parameters\.raw_data\).*--raw-data"
    )
    with pytest.raises(DataError, match=message):
        collect(sweep.root)
    with pytest.raises(DataError, match=message):
        resume_sweep(sweep.root, n_trials=2)
    assert _glrnn(monkeypatch, "collect", sweep.root, "--raw-data", new) == 0
    assert f'"path": "{new}"' in sweep.best.provenance.read_text()
    assert _glrnn(monkeypatch, "report", sweep.root) == 3
    assert "there is no such file. The path is written in" in capsys.readouterr().out
    assert _glrnn(monkeypatch, "report", sweep.root, "--raw-data", new) == 0
    assert sweep.sweep.read_text() == kept
    resume_sweep(sweep.root, n_trials=2, raw_data=new)
    assert config.load_yaml(sweep.sweep)["parameters"]["raw_data"]["value"] == str(new)
    assert [slot.state for slot in SweepStudy(sweep).slots()] == ["finished", "finished"]
    assert collect(sweep.root)["best"]["number"] in (0, 1)


def test_other_data_are_refused_wherever_they_lie(sweep: layout.SweepFolder, tmp_path: Path) -> None:
    other, kept = write_data(tmp_path / "other.hdf5", seed=1), sweep.sweep.read_text()
    for use in (
        lambda: collect(sweep.root, raw_data=other),
        lambda: resume_sweep(sweep.root, raw_data=other),
        lambda: read_data_from(SweepStudy(sweep), other),
    ):
        with pytest.raises(DataError, match=r"other\.hdf5: holds other sequences than the model was trained on"):
            use()
    with pytest.raises(DataError, match=r"none\.hdf5: there is no such file"):
        resume_sweep(sweep.root, raw_data=tmp_path / "none.hdf5")
    assert sweep.sweep.read_text() == kept
    study = SweepStudy(sweep)
    study.spec = spec_of(other)
    study.spec = type(study.spec)(**{**vars(study.spec), "parameters": study.spec.parameters[1:]})
    with pytest.raises(ConfigError, match="the sweep has a preprocessor of its own, and names no file"):
        read_data_from(study, other)


def test_a_worker_that_is_started_again_trains_on_no_other_data(sweep: layout.SweepFolder, tmp_path: Path) -> None:
    new = tmp_path / "new/b.hdf5"
    resume_sweep(sweep.root, n_trials=2, n_workers=0, raw_data=new)
    other = write_data(tmp_path / "other.hdf5", seed=1)

    def work() -> None:
        with contextlib.closing(preemption.PreemptionNotice()) as notice:
            main.run(sweep.root, preemption=notice)

    content = config.load_yaml(sweep.sweep)
    content["parameters"]["raw_data"] = {"value": str(other)}
    sweep.sweep.write_text(config.dump_yaml(content))
    with pytest.raises(DataError, match=r"other\.hdf5: holds other sequences .*written in .*the data of trial 0 back"):
        work()
    sweep.sweep.write_text(config.dump_yaml({**content, "parameters": {"raw_data": {"value": str(new)}}}))
    same = new.rename(tmp_path / "same.hdf5")
    other.rename(new)
    with pytest.raises(DataError, match=r"b\.hdf5: holds other sequences"):
        work()
    assert [slot.state for slot in SweepStudy(sweep).slots()] == ["finished", "waiting"]
    same.rename(new)
    work()
    assert [slot.state for slot in SweepStudy(sweep).slots()] == ["finished", "finished"]
