"""The Gaussian process of one number: its likelihood is scikit-learn's, its prediction a function that it has seen."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from glrnn_hpc.baseline import gaussian_process


def points(n: int, n_features: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, n_features))


@pytest.mark.parametrize(
    ("smoothness", "correlation"),
    [("smooth", kernels.RBF([1.0, 2.0, 3.0])), ("rough", kernels.Matern([1.0, 2.0, 3.0], nu=2.5))],
)
def test_the_likelihood_and_its_gradient_are_those_of_scikit_learn(smoothness, correlation):
    features = points(40)
    values = np.sin(features[:, 0]) + 0.1 * features[:, 1]
    kernel = kernels.ConstantKernel(1.3) * correlation + kernels.WhiteKernel(0.05)
    reference = GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=None).fit(features, values)
    expected, slope = reference.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    value, gradient = gaussian_process.negative_log_likelihood(kernel.theta, features, values, smoothness)
    assert value == pytest.approx(-expected, rel=1e-10)
    np.testing.assert_allclose(gradient, -slope, rtol=1e-7)


@pytest.mark.parametrize("smoothness", ["smooth", "rough"])
@pytest.mark.parametrize("n", [100, gaussian_process.MOST_FOR_HYPERPARAMETERS + 50])
def test_a_linear_function_is_predicted_between_its_points(smoothness, n):
    features = points(n + 20)
    values = features @ [0.6, 0.0, 0.8]
    fitted = gaussian_process.fit_gaussian_process(features[:n], values[:n], time.process_time() + 60, smoothness)
    assert len(fitted.features) == n
    np.testing.assert_allclose(fitted.predict(features[n:]), values[n:], atol=0.1)


def test_a_search_that_has_no_time_ends_after_one_step():
    features = points(50)
    fitted = gaussian_process.fit_gaussian_process(features, features[:, 0], time.process_time())
    # Where the search begins: three standard deviations for each feature.
    np.testing.assert_allclose(fitted.kernel.theta[1:-1], np.log(3.0))


def test_a_machine_without_scikit_learn_is_told_what_to_install():
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from glrnn_hpc.baseline.gaussian_process import import_scikit_learn\n"
        "from glrnn_hpc.errors import ConfigError\n"
        "try:\n    import_scikit_learn()\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs scikit-learn" in done.stdout
    assert "pip install 'glrnn_hpc[baseline]'" in done.stdout
