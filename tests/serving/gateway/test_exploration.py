import dataclasses

import numpy as np
import pytest
from scipy import optimize, stats

from serving.gateway.exploration import draw_weights, posterior_std
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyParameters

MANIFEST = ToyParameters.from_seed(1).manifest()
WEIGHTS = np.arange(NUM_ADAPTIVE, dtype=np.float32)


def manifest_with(**settings):
    return dataclasses.replace(MANIFEST, inner_loop=settings)


def test_std_is_that_of_the_inner_loops_own_precision():
    prior, curvature = [4.0] * 4 + [1.0], [0.5] * 4 + [3.0]
    manifest = manifest_with(prior_precision=prior, event_curvature=curvature)
    np.testing.assert_allclose(
        posterior_std(manifest, 10), [1 / 3] * 4 + [1 / np.sqrt(31)]
    )


def test_std_is_that_of_a_gaussian_posterior():
    """One Gaussian weight, n observations: the curvature at the minimum."""
    prior, curvature, num_events = 0.7, 0.3, 12

    def energy(w):
        return 0.5 * prior * w**2 + 0.5 * num_events * curvature * (w - 2) ** 2

    mode = optimize.minimize_scalar(energy).x
    step = 1e-3
    hessian = (
        energy(mode + step) - 2 * energy(mode) + energy(mode - step)
    ) / step**2
    manifest = manifest_with(prior_precision=prior, event_curvature=curvature)
    np.testing.assert_allclose(
        posterior_std(manifest, num_events), hessian**-0.5, rtol=1e-6
    )


def test_every_event_narrows_the_posterior():
    spread = [posterior_std(MANIFEST, n)[0] for n in (0, 1, 10, 1000)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 0.05


def test_draws_have_the_posteriors_distribution():
    std = np.linspace(0.1, 2.0, NUM_ADAPTIVE)
    draws = np.stack(
        [draw_weights(WEIGHTS, std, "u", seed) for seed in range(2000)]
    )
    scaled = (draws - WEIGHTS) / std
    for column in scaled.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    correlation = np.corrcoef(scaled.T) - np.eye(NUM_ADAPTIVE)
    assert np.abs(correlation).max() < 0.1


def test_draw_depends_on_seed_and_user_only():
    std = np.ones(NUM_ADAPTIVE)
    first = draw_weights(WEIGHTS, std, "u", 7)
    np.testing.assert_array_equal(draw_weights(WEIGHTS, std, "u", 7), first)
    assert not np.allclose(draw_weights(WEIGHTS, std, "u", 8), first)
    assert not np.allclose(draw_weights(WEIGHTS, std, "v", 7), first)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_every_seed_of_the_protocol_can_be_drawn_with(seed):
    drawn = draw_weights(WEIGHTS, np.zeros(NUM_ADAPTIVE), "ä", seed)
    np.testing.assert_array_equal(drawn, WEIGHTS)
    assert drawn.dtype == np.float32


def test_std_is_that_of_the_newton_solvers_prior():
    variance = [0.25, 0.0, 1.0, 4.0, 0.01]
    manifest = manifest_with(prior_variance=variance)
    np.testing.assert_allclose(posterior_std(manifest, 0), np.sqrt(variance))
    # What does not adapt is not explored; of the rest, ever less.
    assert (posterior_std(manifest, 99) <= 0.1 * np.sqrt(variance)).all()
