"""Speed of a calibration beside GrainLearning's own loop, and its distance from the truth."""

from __future__ import annotations

import statistics
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glrnn_hpc import predict
from glrnn_hpc.calibration.calibrate import calibrate
from glrnn_hpc.config import RunConfig
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import split_ids
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.surrogate.intervals import LabelSpace
from tests import grainlearning_loop as loop

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / "data" / "triaxial.hdf5"
WHEEL = Path(str(files("grainlearning"))) / "rnn" / "trained_models" / "rnn_triaxial_drained"
TRUTH = {"E": 8.5, "v": 0.25, "kr": 0.4, "eta": 0.4, "mu": 30.0}
PRESSURE, N_STEPS, LARGEST_STRAIN = 0.2, 200, 0.3
N_SAMPLES, N_ITERATIONS, SEEDS = 50, 20, (0, 1, 2)

#: Models that come with the package, calibrated against the simulations that their trainings never saw.
SHIPPED = ("dem-all", "dem-drained", "dem-undrained")

#: Iterations of GrainLearning, whose samples are a part of those of the posterior.
FEW_ITERATIONS = 4

#: Principal components of the curves that the regression takes.
N_COMPONENTS = 16

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
    unpadded = {"window_size": 1, "pad_length": 0, "raw_data": str(DATA), "inputs": None}
    config = RunConfig(**{**config, **unpadded}).as_dict()
    preprocessor = PreprocessorTriaxialCompression(**config)
    sequences = preprocessor.all_sequences()
    unseen = split_ids(len(sequences), config["train_frac"], config["val_frac"], stats["split_seed"])["test"]
    inputs, params, labels = sequences.take(unseen).arrays()
    columns = preprocessor.column_names()
    names = list(columns["param"])
    header = " ".join([*columns["input"], *columns["label"]])
    found = []
    for number, (load, truth, measured) in enumerate(zip(inputs, params, labels, strict=True)):
        path = tmp_path / f"{number}.dat"
        np.savetxt(path, np.column_stack([load, measured]), header=header)
        known = {name: float(truth[names.index(name)]) for name in names if name not in RANGES}
        found.append(calibrate(shipped, path, RANGES, known=known, n_iterations=FEW_ITERATIONS))
    truths = {name: params[:, names.index(name)] for name in RANGES}
    # A label that is the same in all rows, or that follows from others, is not compared.
    fits = [[row["rmse"] <= row["surrogate_rmse"] for row in each["errors"].values()] for each in found]
    direct = regressed(sequences, np.setdiff1d(np.arange(len(sequences)), unseen), unseen, columns)
    by_surrogate = {name: np.array([each["mean"][name] for each in found]) for name in RANGES}
    by_regression = {name: direct[:, names.index(name)] for name in RANGES}
    (mu, modulus), (mu_direct, modulus_direct) = (
        (np.abs(means["mu"] / truths["mu"] - 1) <= 0.15, np.abs(10 ** (means["E"] - truths["E"]) - 1) <= 0.15)
        for means in (by_surrogate, by_regression)
    )
    covered = {name: covers(name, found, truth).mean() for name, truth in truths.items()}
    seconds = statistics.median(each["seconds"] for each in found)
    lines = [
        f"All {len(unseen)} simulations of the test split of tests/data, calibrated with `{shipped}`; all labels are",
        "compared that do not follow from others. Errors of the most probable value and of the mean in parts of the",
        "truth: medians, and how many are within 15 %. E is a logarithm, of which 15 % are nearly the whole range: see",
        "the row of the Young's modulus itself, 10 to the mean of E.",
        "",
        "| | most probable | within 15 % | mean | within 15 % | deviation | truth within the 90 % interval "
        "| share of the surrogate |",
        "|---|---|---|---|---|---|---|---|",
        *(row_of(name, found, truth) for name, truth in truths.items()),
        "",
        f"In one and the same simulation the means of mu and of the modulus are within 15 % for "
        f"{(mu & modulus).mean():.0%}.",
        f"The response of the most probable parameters is within the surrogate's own test RMSE in a label for "
        f"{np.mean([value for each in fits for value in each]):.0%}. A calibration takes {seconds:.1f} s.",
        "",
        "What the curves tell at all: a regression of the parameters on the whole curves of all labels and the load",
        f"(Gaussian processes of scikit-learn on {N_COMPONENTS} principal components, in the transforms of the",
        "labels), which has seen all other simulations, asked for the same ones.",
        "",
        "| | median error | within 15 % |",
        "|---|---|---|",
        *(
            f"| {name} | {np.median(each):.1%} | {np.mean(each <= 0.15):.0%} |"
            for name, each in (
                *((name, np.abs(by_regression[name] / truth - 1)) for name, truth in truths.items()),
                ("modulus", np.abs(10 ** (by_regression["E"] - truths["E"]) - 1)),
            )
        ),
        "",
        f"mu and the modulus both: {(mu_direct & modulus_direct).mean():.0%}.",
    ]
    (RESULTS / f"calibration_{shipped}.md").write_text("\n".join(lines) + "\n")
    assert mu.mean() >= 0.6
    assert modulus.mean() >= 0.6
    assert (mu & modulus).mean() >= (0.55 if shipped == "dem-all" else 0.45)
    # Of 75 simulations, the part that intervals of 90 % hold has a standard deviation of 3.5 %.
    assert all(0.8 <= part <= 0.99 for part in covered.values()), covered
    assert 0.86 <= np.mean(list(covered.values())) <= 0.94


def regressed(sequences: Sequences, known: Any, asked: Any, columns: dict[str, Any]) -> Any:
    """Return parameters (n, n_params) that a regression finds for the sequences `asked`, having seen those `known`."""
    inputs, params, labels = (np.asarray(values, "float64") for values in sequences.arrays())
    space = LabelSpace(tuple(columns["label"]), tuple(columns["param"]), tuple(TRIAXIAL.label_transforms()))
    curves = np.concatenate([space.forward(labels, params), inputs], axis=2)
    scale = curves[known].std(axis=(0, 1))
    curves = (curves / np.where(scale > 0, scale, 1)).reshape(len(curves), -1)
    others = params[:, len(RANGES) :]  # what a calibration knows, too
    components = PCA(N_COMPONENTS, random_state=0).fit(curves[known])
    features = np.concatenate([components.transform(curves), others], axis=1)
    n_features = features.shape[1]
    estimates = np.zeros((len(asked), params.shape[1]))
    for column in range(len(RANGES)):
        kernel = ConstantKernel(1.0) * RBF(np.full(n_features, 5.0), (0.3, 1e3)) + WhiteKernel(0.3, (1e-3, 2.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length at its bound: the component tells nothing of the parameter
            process = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
            process.fit(features[known], params[known, column])
        estimates[:, column] = process.predict(features[asked])
    return estimates


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


def row_of(name: str, found: list[dict[str, Any]], truth: Any) -> str:
    kinds = ("most_probable", "mean")
    numbers = numbers_of(*(errors(name, found, truth, kind) for kind in kinds))
    deviation = np.median([each["deviation"][name] for each in found])
    shares = [each["surrogate_share"][name] for each in found]
    share = "not known" if None in shares else f"{np.median(shares):.0%}"
    row = f"| {name} | {numbers} | {deviation:.3g} | {covers(name, found, truth).mean():.0%} | {share} |"
    if name == "E":
        row += f"\n| modulus | {numbers_of(*(moduli(found, truth, kind) for kind in kinds))} | | | |"
    return row


def numbers_of(best: Any, mean: Any) -> str:
    return " | ".join(f"{np.median(each):.1%} | {np.mean(each <= 0.15):.0%}" for each in (best, mean))
