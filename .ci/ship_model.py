"""Put the export of a sweep among the models of the package: `python .ci/ship_model.py runs/dem_all/best dem-all`.

It may be a single model or an ensemble. Left out: the state of the optimizer, which a prediction does not need, the
metrics of an ensemble's members, and what tells of the machine of the training.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import h5py

from glrnn_hpc import layout
from glrnn_hpc.config import RunConfig
from glrnn_hpc.models.registry import recorded_config
from glrnn_hpc.records.provenance import ModelFile, Provenance, SweepOrigin, read_provenance, write_provenance
from glrnn_hpc.surrogate import artifact, shipped

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"

#: What tells of a machine.
NOWHERE = {"trained_on": None, "host": None, "git": None}


def sha256(path: Path) -> str:
    """Return the checksum of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def data_of(provenance: Provenance) -> str:
    """Return the file of this repository, by its path in it, that a model was trained on."""
    files = sorted(DATA.glob("*.hdf5"))
    for path in files:
        if sha256(path) == provenance.data.sha256:
            return path.relative_to(ROOT).as_posix()
    raise SystemExit(f"the model was trained on other data than {', '.join(map(str, files))}")


def without_machine(provenance: Provenance) -> Provenance:
    """Return a provenance whose data lie in this repository, and that names no host and no commit of elsewhere."""
    data = provenance.data.model_copy(update={"path": data_of(provenance)})
    software = without_commit(provenance.trained_with)
    sweep = without_folder(provenance.sweep)
    return provenance.model_copy(update={"sweep": sweep, "data": data, "trained_with": software, **NOWHERE})


def without_commit(software: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the software of a training whose commit is not told."""
    return None if software is None else {key: value for key, value in software.items() if key != "git"}


def without_folder(sweep: SweepOrigin) -> SweepOrigin:
    """Return a sweep whose folder is not told."""
    return sweep.model_copy(update={"folder": None})


def write_model(source: layout.RunFolder, target: layout.RunFolder, data: str, ranges: dict[str, Any]) -> ModelFile:
    """Write the weights and the description of a model, with the ranges of its parameters, and return what they are."""
    config, stats = artifact.load_description(source)
    model = artifact.load_model(artifact.find_model(source.root), config, stats)
    shipped_config: RunConfig = recorded_config({**config.as_dict(), "raw_data": data, "save_weights_only": True})
    target.root.mkdir(parents=True)
    artifact.save_description(target, shipped_config, {**stats, **ranges})
    write_compact(target.train_stats, layout.read_json(target.train_stats))
    file = target.model(weights_only=True)
    artifact.save_model(model, file)
    pack(file)
    return ModelFile(file=file.name, sha256=sha256(file), weights=int(model.count_params()))


def pack(file: Path) -> None:
    """Write the weights of a file in a sixth less room, with the same values."""
    packed = file.with_suffix(".packed")
    with h5py.File(file) as source, h5py.File(packed, "w", libver="latest") as target:

        def copy(name: str, each: h5py.Group | h5py.Dataset) -> None:
            if isinstance(each, h5py.Group):
                written = target.require_group(name)
            else:
                # A scalar has no chunks to compress.
                filters = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if each.shape else {}
                written = target.create_dataset(name, data=each[()], **filters)
            written.attrs.update(each.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    packed.replace(file)


def write_short(source: Path, target: Path) -> None:
    """Write a record without white space, its numbers with seven digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(each) for key, each in value.items()}
        if isinstance(value, list):
            return [rounded(each) for each in value]
        return float(f"{value:.7g}") if isinstance(value, float) else value

    content = rounded(layout.read_json(source))
    write_compact(target, content)


def write_compact(target: Path, content: Any) -> None:
    """Write a record without white space."""
    layout.write_text(target, json.dumps(content, separators=(",", ":")) + "\n")


def write_export(source: layout.RunFolder, target: layout.RunFolder) -> None:
    """Write what is shipped of an export."""
    provenance = without_machine(read_provenance(source.provenance))
    data = str(provenance.data.path)
    ranges = {f"params_{end}": [getattr(column, end) for column in provenance.parameters] for end in ("min", "max")}
    if provenance.ensemble is None:
        update: dict[str, Any] = {"model": write_model(source, target, data, ranges)}
    else:
        members = []
        for member in provenance.ensemble.members:
            folders = source.member(member.folder), target.member(member.folder)
            described = {"model": write_model(*folders, data, ranges), "sweep": without_folder(member.sweep)}
            told = {"trained_on": None, "trained_with": without_commit(member.trained_with)}
            members.append(member.model_copy(update={**described, **told}))
        write_short(source.ensemble, target.ensemble)
        update = {"ensemble": provenance.ensemble.model_copy(update={"members": members})}
    if source.error_covariance.exists():
        write_short(source.error_covariance, target.error_covariance)
    write_provenance(target.provenance, provenance.model_copy(update=update))


def main(best: str, name: str) -> None:
    """Write the folder of a shipped model; an earlier one goes."""
    target = layout.RunFolder(shipped.FOLDER / name)
    # Beside the earlier one, which stays until this one is whole.
    partial = layout.RunFolder(layout.partial_folder(target.root))
    write_export(layout.RunFolder(Path(best)), partial)
    layout.replace_folder(partial.root, target.root)
    total = sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file())
    sys.stdout.write(f"{target.root}; all shipped models together {total / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
