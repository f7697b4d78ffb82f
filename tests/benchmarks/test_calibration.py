"""Speed of a calibration beside GrainLearning's own loop, and its distance from the truth."""

from __future__ import annotations

import statistics
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from glrnn_hpc import predict
from glrnn_hpc.calibration.calibrate import calibrate
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.config import RunConfig
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import split_ids
from glrnn_hpc.sequences import Sequences
from tests import grainlearning_loop as loop

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / "data" / "triaxial.hdf5"
WHEEL = Path(str(files("grainlearning"))) / "rnn" / "trained_models" / "rnn_triaxial_drained"
TRUTH = {"E": 8.5, "v": 0.25, "kr": 0.4, "eta": 0.4, "mu": 30.0}
PRESSURE, N_STEPS, LARGEST_STRAIN = 0.2, 200, 0.3
N_SAMPLES, N_ITERATIONS, SEEDS = 50, 20, (0, 1, 2)

#: Networks that come with the package, calibrated against simulations that their trainings never saw.
SHIPPED, N_SIMULATIONS = ("dem-all", "dem-drained", "dem-undrained"), 24
RANGES = {"E": (8.0, 9.5), "v": (0.05, 0.45), "kr": (0.0, 1.0), "eta": (0.0, 1.0), "mu": (15.0, 50.0)}


def test_a_calibration_as_in_grainlearnings_tutorial(tmp_path: Path):
    model, stats, config = predict.get_pretrained_model(WHEEL)
    load = np.linspace(0, LARGEST_STRAIN, N_STEPS)[:, None]
    measured = loop.with_noise(model, stats, load, [*TRUTH.values(), PRESSURE], config, 0.01)[:, [0, 2]]
    np.savetxt(tmp_path / "observation.dat", np.column_stack([load, measured]), header="e_z e q", fmt="%.17g")
    settings = {"n_samples": N_SAMPLES, "n_iterations": N_ITERATIONS}
    rows, ours, theirs = [], [], []
    for seed in SEEDS:  # one after the other, so that both have the same machine
        peer = loop.calibrate(model, stats, config, load, measured, ["e", "q"], PRESSURE, **settings, seed=seed)
        out = tmp_path / f"{seed}"
        found = calibrate(
            WHEEL, tmp_path / "observation.dat", loop.RANGES, out, known={"pressure": PRESSURE}, seed=seed, **settings
        )
        assert found["iterations"] == peer.iterations
        for name, value in peer.most_probable.items():
            assert found["most_probable"][name] == pytest.approx(value, rel=1e-3)
        theirs.append((peer.seconds, statistics.median(peer.predictions)))
        ours.append((found["seconds"], found["seconds_per_prediction"]))
        for who, values, seconds in (
            ("GrainLearning", peer.most_probable, theirs[-1]),
            ("here", found["most_probable"], ours[-1]),
        ):
            numbers = " | ".join(f"{values[name]:.5g}" for name in TRUTH)
            rows.append(f"| {seed} | {who} | {found['iterations']} | {seconds[0]:.1f} | {seconds[1]:.3f} | {numbers} |")
        spread = " | ".join(f"{found['mean'][name]:.4g} ± {found['deviation'][name]:.2g}" for name in TRUTH)
        rows.append(f"| {seed} | mean and deviation | | | | {spread} |")
    total, each = (statistics.median(b[k] / a[k] for a, b in zip(ours, theirs, strict=True)) for k in (0, 1))
    lines = [
        f"GrainLearning's drained network (LSTM 200, window 4), an observation of {N_STEPS} steps that it made itself,",
        f"with 1 % noise; e and q are compared; {N_SAMPLES} samples, at most {N_ITERATIONS} iterations. GrainLearning:",
        "its `predict_over_windows` as callback. Here: the whole command, from reading the model to figures.",
        "A prediction is that of all samples of an iteration.",
        "",
        f"| seed | | iterations | in all [s] | prediction [s] | {' | '.join(TRUTH)} |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| | truth | | | | {' | '.join(f'{value:g}' for value in TRUTH.values())} |",
        *rows,
        "",
        f"Medians of the ratios: {total:.1f} times faster in all, {each:.0f} times per prediction.",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "calibration.md").write_text("\n".join(lines) + "\n")
    assert total >= 2
    assert each >= 10


@pytest.mark.parametrize("shipped", SHIPPED)
def test_simulations_that_the_training_never_saw(shipped: str, tmp_path: Path):
    _, stats, config = predict.get_pretrained_model(shipped)
    config = RunConfig(**{**config, "raw_data": str(DATA)}).as_dict()
    preprocessor = PreprocessorTriaxialCompression(**config)
    assert preprocessor.fingerprint() == stats["fingerprint"]
    sequences = preprocessor.all_sequences()
    unseen = split_ids(len(sequences), config["train_frac"], config["val_frac"], stats["split_seed"])["test"]
    chosen = unseen[np.linspace(0, len(unseen) - 1, N_SIMULATIONS).astype(int)]
    inputs, params, labels = sequences.take(chosen).arrays()
    names, columns = stats["param_names"], stats["label_names"]
    found = []
    for number, (load, truth, measured) in enumerate(zip(inputs, params, labels, strict=True)):
        path = tmp_path / f"{number}.dat"
        np.savetxt(path, np.column_stack([load, measured]), header=" ".join([*stats["input_names"], *columns]))
        known = {name: float(truth[names.index(name)]) for name in names if name not in RANGES}
        found.append(calibrate(shipped, path, RANGES, known=known))
    rows = [row_of(name, found, params[:, names.index(name)]) for name in RANGES]
    # A label that is the same in all rows, as e of an undrained test, is not compared.
    limits = {name: row["surrogate_rmse"] for each in found for name, row in each["errors"].items()}
    fits = [[row["rmse"] <= row["surrogate_rmse"] for row in each["errors"].values()] for each in found]
    surrogate = Surrogate(shipped)
    responses = np.stack([surrogate.respond(load, truth[None])[0] for load, truth in zip(inputs, params, strict=True)])
    missed = np.sqrt(((responses - labels[:, config["window_size"] :]) ** 2).mean(axis=1))
    at_truth = np.stack([missed[:, columns.index(name)] <= limit for name, limit in limits.items()], axis=1)
    direct = regressed(sequences, np.setdiff1d(np.arange(len(sequences)), unseen), chosen)
    known_columns = [names.index(name) for name in RANGES]
    directs = np.abs(direct[:, known_columns] / params[:, known_columns] - 1)
    truths = {name: params[:, names.index(name)] for name in RANGES}
    mu, mu_mean = (errors("mu", found, truths["mu"], kind) for kind in ("most_probable", "mean"))
    modulus = moduli(found, truths["E"], "most_probable")
    lines = [
        "",
        f"{len(chosen)} simulations of the test split of tests/data, evenly chosen, calibrated with `{shipped}`; all",
        f"{len(columns)} labels are compared. Errors of the most probable value and of the mean in parts of the truth:",
        "medians, and how many are within 15 %. E is a logarithm, of which 15 % are nearly the whole range: see the",
        "row of the Young's modulus itself.",
        "",
        "| | most probable | within 15 % | mean | within 15 % | deviation | truth within the 90 % interval |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The response of the most probable parameters is within the surrogate's own test RMSE in all labels for "
        f"{np.mean([all(each) for each in fits]):.0%} of the simulations, in a label for "
        f"{np.mean([value for each in fits for value in each]):.0%}. With the true parameters it is within in all "
        f"labels for {at_truth.all(axis=1).mean():.0%}, in a label for {at_truth.mean():.0%}.",
        "",
        "In one and the same simulation the response is within in all labels and mu within 15 % for "
        f"{joint(fits, mu):.0%} (by the mean of mu {joint(fits, mu_mean):.0%}), the modulus too for "
        f"{joint(fits, mu, modulus):.0%}.",
        "",
        "What the curves tell at all: a regression of the parameters on the whole curves of all labels (400 extremely",
        "randomised trees of scikit-learn), trained on the same simulations as the network, asked for the same ones.",
        "",
        "| | median error | within 15 % |",
        "|---|---|---|",
        *(
            f"| {name} | {np.median(each):.1%} | {np.mean(each <= 0.15):.0%} |"
            for name, each in zip(RANGES, directs.T, strict=True)
        ),
    ]
    with (RESULTS / "calibration.md").open("a") as file:
        file.write("\n".join(lines) + "\n")
    # 15 % of E, a logarithm, is nearly the whole range: any guess is within. A third of the modulus is not.
    distances = np.abs([each["most_probable"]["E"] for each in found] - params[:, names.index("E")])
    assert np.median(distances) <= np.log10(4 / 3)
    assert np.median(errors("mu", found, params[:, names.index("mu")], "most_probable")) <= 0.15
    assert np.mean(errors("mu", found, params[:, names.index("mu")], "mean") <= 0.15) >= 1 / 2
    assert np.mean([value for each in fits for value in each]) >= 0.85
    covered = [covers(name, found, params[:, names.index(name)]).mean() for name in RANGES]
    assert np.mean(covered) >= 0.75


def regressed(sequences: Sequences, known: Any, asked: Any) -> Any:
    """Return parameters (n, n_params) that a regression finds for the sequences `asked`, having seen those `known`."""
    inputs, params, labels = sequences.arrays()
    scale = labels.std(axis=(0, 1))
    curves = np.concatenate([(labels / scale).reshape(len(labels), -1), inputs.reshape(len(inputs), -1)], axis=1)
    features = np.concatenate([curves, params[:, len(RANGES) :]], axis=1)  # what a calibration knows, too
    trees = ExtraTreesRegressor(400, random_state=0).fit(features[known], params[known])
    return trees.predict(features[asked])


def errors(name: str, found: list[dict[str, Any]], truth: Any, kind: str) -> Any:
    return np.abs(np.array([each[kind][name] for each in found]) / truth - 1)


def covers(name: str, found: list[dict[str, Any]], truth: Any) -> Any:
    return np.array(
        [
            each["interval"][name][0] <= value <= each["interval"][name][1]
            for each, value in zip(found, truth, strict=True)
        ]
    )


def moduli(found: list[dict[str, Any]], truth: Any, kind: str) -> Any:
    """Return the errors of the Young's modulus, whose logarithm is E, in parts of the truth."""
    return np.abs(10 ** (np.array([each[kind]["E"] for each in found]) - truth) - 1)


def joint(fits: list[list[bool]], *distances: Any) -> float:
    """Return for which part of the simulations the whole response fits and all these errors are within 15 %."""
    return float(np.mean([all(fit) for fit in fits] & np.all(np.array(distances) <= 0.15, axis=0)))


def row_of(name: str, found: list[dict[str, Any]], truth: Any) -> str:
    kinds = ("most_probable", "mean")
    numbers = numbers_of(*(errors(name, found, truth, kind) for kind in kinds))
    deviation = np.median([each["deviation"][name] for each in found])
    row = f"| {name} | {numbers} | {deviation:.3g} | {covers(name, found, truth).mean():.0%} |"
    if name == "E":
        row += f"\n| modulus | {numbers_of(*(moduli(found, truth, kind) for kind in kinds))} | | |"
    return row


def numbers_of(best: Any, mean: Any) -> str:
    return " | ".join(f"{np.median(each):.1%} | {np.mean(each <= 0.15):.0%}" for each in (best, mean))
