"""Put the export of a sweep among the models of the package: `python .ci/ship_model.py runs/dem_all/best dem-all`.

Left out: the state of the optimizer, which a prediction does not need, and what tells of the machine of the training.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.predict import get_pretrained_model
from glrnn_hpc.surrogate import artifact, shipped

ROOT = Path(__file__).resolve().parents[1]
DATA = "tests/data/triaxial.hdf5"


def sha256(path: Path) -> str:
    """Return the checksum of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_machine(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return a provenance whose data lie in this repository, and that names no host and no commit of elsewhere."""
    if provenance["data"]["sha256"] != sha256(ROOT / DATA):
        raise SystemExit(f"the model was trained on other data than {DATA}")
    sweep = {**provenance["sweep"], "folder": None}
    data = {**provenance["data"], "path": DATA}
    return {**provenance, "sweep": sweep, "data": data, "trained_on": None, "host": None, "git": None}


def main(best: str, name: str) -> None:
    """Write the folder of a shipped model; an earlier one goes."""
    source, target = layout.RunFolder(Path(best)), layout.RunFolder(shipped.FOLDER / name)
    provenance = without_machine(layout.read_json(source.provenance))
    model, stats, config = get_pretrained_model(source.root)
    layout.remove_folder(target.root)
    target.root.mkdir(parents=True)
    ranges = {f"params_{end}": [row[end] for row in provenance["parameters"]] for end in ("min", "max")}
    artifact.save_description(target, {**config, "raw_data": DATA, "save_weights_only": True}, {**stats, **ranges})
    file = target.model(weights_only=True)
    artifact.save_model(model, file)
    provenance["model"] = {**provenance["model"], "file": file.name, "sha256": sha256(file)}
    layout.write_json(target.provenance, provenance)
    total = sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file())
    sys.stdout.write(f"{target.root.relative_to(ROOT)}; all shipped models together {total / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
