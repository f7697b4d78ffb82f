"""Emulator of response curves: Gaussian processes on their principal components.

It knows no steps: a test is one point, of its parameters and what is particular to its load, and its response is
one curve.
Where all tests follow one path, this is the emulator that a recurrent network has to beat.

References
----------
D. Higdon, J. Gattiker, B. Williams and M. Rightley, Computer model calibration using high-dimensional output, Journal
of the American Statistical Association 103 (2008), doi:10.1198/016214507000000888.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from glrnn_hpc.baseline.gaussian_process import Array, GaussianProcess, Smoothness, fit_gaussian_process
from glrnn_hpc.targets import Targets

#: Principal components of the responses; those beyond it are noise in data of DEM.
N_COMPONENTS = 12

#: Principal components of the load features that differ between sequences.
N_LOAD_COMPONENTS = 6

#: Part of the variance below which a component is rounding.
_NEGLIGIBLE = 1e-10

#: Part of a process's share of the time in which its hyperparameters are searched; the rest is for its fit.
_SEARCH = 0.6

#: Sequences that a process is fitted to at least, however little time is left.
_LEAST_FITTED = 500

#: Sequences that the components are taken from: more of them turn the components by less than the noise does.
_MOST_FOR_COMPONENTS = 600


@dataclass(frozen=True)
class Components:
    """Principal components of rows of numbers, the one with the largest variance first.

    Attributes
    ----------
    mean : ndarray, shape (n_columns,)
        Mean row.
    scale : ndarray, shape (n_columns,)
        What the columns are divided by.
    directions : ndarray, shape (n_components, n_columns)
        Of the components; orthonormal, unless the scores are standardised.
    """

    mean: Array
    scale: Array
    directions: Array

    def scores(self, rows: Array) -> Array:
        """Return the scores, (n, n_components), of rows (n, n_columns)."""
        scores: Array = ((rows - self.mean) / self.scale) @ self.directions.T
        return scores

    def rows(self, scores: Array) -> Array:
        """Return the rows, (n, n_columns), of scores (n, n_components) along orthonormal directions."""
        rows: Array = (scores @ self.directions) * self.scale + self.mean
        return rows


@dataclass(frozen=True)
class Emulator:
    """Emulator that was fitted.

    Attributes
    ----------
    targets : Targets
        What is emulated in place of the labels.
    params : Components
        What standardises the parameters, or their logarithms, without those that are constant.
    loads : Components or None
        Components of the load features that differ; None if there is none.
    load_columns : tuple of int
        Columns of these features.
    curves : Components
        Components of the responses.
    processes : list of list of GaussianProcess
        For each component a rough one of all features, and a smooth one of the parameters alone. They err in different
        tests: a weighted mean of both is better than either.
    shares : ndarray, shape (n_components,)
        Share of the first process in the mean.
    scales : ndarray, shape (n_components,)
        Standard deviations of the scores.
    n_fitted : int
        Sequences that the process with the fewest of them was fitted to.
    """

    targets: Targets
    params: Components
    loads: Components | None
    load_columns: tuple[int, ...]
    curves: Components
    processes: list[list[GaussianProcess]]
    shares: Array
    scales: Array
    n_fitted: int

    def predict(self, inputs: Array, params: Array) -> Array:
        """Return raw labels (n, n_steps, n_labels) of raw load features (n, n_steps, n_inputs), params (n, n_params).

        The steps must be those of the fit.
        """
        chosen = inputs[..., list(self.load_columns)]
        features = _features(self.params, self.loads, chosen, _with_logarithms(params, self.targets))
        scores = np.zeros((len(inputs), len(self.scales)))
        for k, (scale, processes) in enumerate(zip(self.scales, self.processes, strict=True)):
            predicted = [each.predict(features[:, : each.features.shape[1]]) for each in processes]
            scores[:, k] = scale * (self.shares[k] * predicted[0] + (1 - self.shares[k]) * predicted[-1])
        curves = self.curves.rows(scores)
        targets = curves.reshape(len(inputs), inputs.shape[1], -1)
        return self.targets.to_labels(targets, inputs.astype("float64"), params[:, None].astype("float64"))


def fit_emulator(
    inputs: Array, params: Array, labels: Array, targets: Targets, load_columns: Sequence[int], deadline: float
) -> Emulator:
    """Fit an emulator to sequences that follow one path.

    Parameters
    ----------
    inputs : ndarray, shape (n, n_steps, n_inputs)
        Raw load features.
    params : ndarray, shape (n, n_params)
        Raw parameters.
    labels : ndarray, shape (n, n_steps, n_labels)
        Raw responses. The sequences are in random order.
    targets : Targets
        What is emulated in place of the labels; not standardised, and finite for all of them.
    load_columns : sequence of int
        Load features that differ between the sequences.
    deadline : float
        When the fit shall end, by `time.process_time`: less time, fewer iterations, and fewer sequences for a process.

    Returns
    -------
    Emulator

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance of the sequences is singular.
    """
    values = targets.of_labels(labels.astype("float64"), params[:, None].astype("float64"))
    curves = _components(values.reshape(len(values), -1), N_COMPONENTS, _spread(values))
    raw_or_log = _with_logarithms(params, targets)
    of_params = _standardising(raw_or_log)
    chosen = inputs[..., list(load_columns)]
    loads = None
    if load_columns:
        rows = chosen.reshape(len(chosen), -1)
        loads = _standardised(_components(rows, N_LOAD_COMPONENTS, _spread(chosen)), rows)
    features = _features(of_params, loads, chosen, raw_or_log)
    scores = curves.scores(values.reshape(len(values), -1))
    deviations = scores.std(axis=0)
    scales = np.where(deviations > 0, deviations, 1.0)
    kinds: list[tuple[int, Smoothness]] = [(features.shape[1], "rough")]
    if len(of_params.directions):
        kinds.append((len(of_params.directions), "smooth"))
    jobs = [(k, *kind) for k in range(len(scales)) for kind in kinds]
    processes: list[list[GaussianProcess]] = [[] for _ in scales]
    n_fitted = len(features)
    for place, (k, width, smoothness) in enumerate(jobs):
        began = time.process_time()
        share = max(0.0, deadline - began) / (len(jobs) - place)
        process = fit_gaussian_process(
            features[:n_fitted, :width], scores[:n_fitted, k] / scales[k], began + _SEARCH * share, smoothness
        )
        processes[k].append(process)
        if time.process_time() - began > share and n_fitted > _LEAST_FITTED:
            n_fitted = max(_LEAST_FITTED, n_fitted // 2)
    return Emulator(
        targets,
        of_params,
        loads,
        tuple(load_columns),
        curves,
        processes,
        np.array([_share(scores[:, k] / scale, processes[k]) for k, scale in enumerate(scales)]),
        scales,
        min((len(each.features) for of_component in processes for each in of_component), default=len(features)),
    )


def _share(values: Array, processes: list[GaussianProcess]) -> float:
    """Return the share of the first process in the mean that predicts best what both did not see."""
    n = min(len(each.left_out) for each in processes)
    one, other = processes[0].left_out[:n], processes[-1].left_out[:n]
    distance = ((one - other) ** 2).sum()
    if distance == 0:
        return 1.0
    return float(np.clip(((values[:n] - other) * (one - other)).sum() / distance, 0.0, 1.0))


def _with_logarithms(params: Array, targets: Targets) -> Array:
    """Return the parameters, float64, with the logarithm of those that a logarithmic label is divided by.

    Such a label changes with the ratio of the parameter to others, as does its own logarithm.
    """
    values = params.astype("float64")
    for transform in targets.transforms:
        if transform.kind == "linear" or transform.reference is None:
            continue
        column = targets.param_names.index(transform.reference)
        shifted = params[:, column].astype("float64") + transform.offset
        if (shifted > 0).all():
            values[:, column] = np.log(shifted)
    return values


def _features(of_params: Components, loads: Components | None, chosen: Array, params: Array) -> Array:
    """Return the features of sequences: parameters, then what is particular to their load, each of deviation 1."""
    features = of_params.scores(params)
    if loads is None:
        return features
    return np.concatenate([features, loads.scores(chosen.reshape(len(chosen), -1).astype("float64"))], axis=1)


def _standardising(params: Array) -> Components:
    """Return components that are the parameters themselves, without the constant ones."""
    mean, std = params.mean(axis=0), params.std(axis=0)
    varies = std > 1e-6 * (np.abs(mean) + std)
    return Components(mean, np.where(varies, std, 1.0), np.eye(params.shape[1])[varies])


def _spread(values: Array) -> Array:
    """Return the standard deviation of each column of (n, n_steps, n_columns) for all steps, (n_steps * n_columns,)."""
    deviations = values.astype("float64").std(axis=(0, 1))
    return np.tile(np.where(deviations > 0, deviations, 1.0), values.shape[1])


def _components(rows: Array, n_most: int, scale: Array) -> Components:
    """Return the principal components of scaled rows; their directions are those of 600 rows at most."""
    mean = rows.mean(axis=0, dtype="float64")
    deviations = (rows[:_MOST_FOR_COMPONENTS] - mean) / scale
    # By the products of the rows, as there are fewer rows than columns: the largest eigenvalues come last.
    squares, vectors = np.linalg.eigh(deviations @ deviations.T)
    squares, vectors = squares[::-1][:n_most], vectors[:, ::-1][:, :n_most]
    counts = squares > _NEGLIGIBLE * max(squares.sum(), np.finfo(float).tiny)
    directions = (vectors[:, counts].T @ deviations) / np.sqrt(squares[counts])[:, None]
    return Components(mean, scale, directions)


def _standardised(components: Components, rows: Array) -> Components:
    """Return components whose scores of these rows have deviation 1."""
    return replace(components, directions=components.directions / components.scores(rows).std(axis=0)[:, None])
