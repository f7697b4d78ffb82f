"""Put the export of a sweep among the models of the package: `python .ci/ship_model.py runs/dem_all/best dem-all`.

Left out: the state of the optimizer, which a prediction does not need, and what tells of the machine of the training.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.models.registry import recorded_config
from glrnn_hpc.predict import get_pretrained_model
from glrnn_hpc.records.provenance import ModelFile, Provenance, read_provenance, write_provenance
from glrnn_hpc.surrogate import artifact, shipped

ROOT = Path(__file__).resolve().parents[1]
DATA = ("tests/data/triaxial.hdf5", "tests/data/cyclic.hdf5")


def sha256(path: Path) -> str:
    """Return the checksum of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def data_of(provenance: Provenance) -> str:
    """Return the data file of this repository that a model was trained on."""
    for path in DATA:
        if provenance.data.sha256 == sha256(ROOT / path):
            return path
    raise SystemExit(f"the model was trained on other data than {' and '.join(DATA)}")


def without_machine(provenance: Provenance) -> Provenance:
    """Return a provenance whose data lie in this repository, and that names no host and no commit of elsewhere."""
    sweep = provenance.sweep.model_copy(update={"folder": None})
    data = provenance.data.model_copy(update={"path": data_of(provenance)})
    nowhere = {"trained_on": None, "host": None, "git": None}
    return provenance.model_copy(update={"sweep": sweep, "data": data, **nowhere})


def main(best: str, name: str) -> None:
    """Write the folder of a shipped model; an earlier one goes."""
    source, target = layout.RunFolder(Path(best)), layout.RunFolder(shipped.FOLDER / name)
    provenance = without_machine(read_provenance(source.provenance))
    model, stats, config = get_pretrained_model(source.root)
    ranges = {f"params_{end}": [getattr(column, end) for column in provenance.parameters] for end in ("min", "max")}
    shipped_config = recorded_config({**config, "raw_data": provenance.data.path, "save_weights_only": True})
    # Beside the earlier one, which stays until this one is whole.
    partial = layout.RunFolder(layout.partial_folder(target.root))
    partial.root.mkdir(parents=True)
    artifact.save_description(partial, shipped_config, {**stats, **ranges})
    file = partial.model(weights_only=True)
    artifact.save_model(model, file)
    described = ModelFile(file=file.name, sha256=sha256(file), weights=model.count_params())
    write_provenance(partial.provenance, provenance.model_copy(update={"model": described}))
    layout.replace_folder(partial.root, target.root)
    total = sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file())
    sys.stdout.write(f"{target.root}; all shipped models together {total / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
