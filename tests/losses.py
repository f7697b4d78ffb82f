"""The losses of a trained model, computed anew from its files."""

from __future__ import annotations

from pathlib import Path

from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.predict import get_pretrained_model
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate import evaluate


def losses_of(folder: Path) -> dict[str, float]:
    """Return `val_loss`, `val_mae`, `test_loss`, `test_mae` of the model in a folder."""
    model, stats, config = get_pretrained_model(folder)
    run_config = parse(RunConfig, config)
    data = evaluate.prepared_for(PreprocessorTriaxialCompression(**config), run_config, stats["split_seed"])
    return evaluate.split_losses(model, data, run_config)
