import numpy as np

from serving.contract import metrics
from serving.contract.labels import liked


def test_half_and_more_is_liked():
    labels = [0.0, 0.49999997, 0.5, 0.75, 1.0]
    assert liked(labels).tolist() == [False, False, True, True, True]


def test_figures_see_liked_or_not_and_no_degrees():
    random = np.random.default_rng(0)
    degrees = random.choice([0.0, 1 / 6, 1 / 3, 0.5, 1.0], 200)
    plain = (degrees >= 0.5).astype(float)
    scores, groups = random.normal(size=200), np.repeat(np.arange(10), 20)
    for figure in (metrics.auc, metrics.log_loss):
        assert figure(degrees, scores) == figure(plain, scores)
    for figure in (metrics.wgauc, metrics.ndcg):
        assert figure(degrees, scores, groups) == figure(plain, scores, groups)
