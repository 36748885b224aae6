"""Arms against the statistics that they must have."""

import collections
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from serving.experiments.assignment import assign, unit_hash
from serving.experiments.config import Arm, Experiment

USERS = [f"user-{number}" for number in range(20_000)]


def experiment(name="x", weights=(1.0, 1.0), share=1.0, salt=None):
    arms = tuple(Arm(str(n), weight) for n, weight in enumerate(weights))
    return Experiment(name, arms, share=share, salt=salt or name)


def arm_of(one, user):
    place = assign([one], user)
    return place and place.arm.name


def test_hashes_are_uniform():
    values = [unit_hash("salt", "arm", user) for user in USERS]
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert 0.0 <= min(values) < max(values) < 1.0


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 2, 7)])
def test_arms_get_users_by_weight(weights):
    one = experiment(weights=weights)
    counts = collections.Counter(arm_of(one, user) for user in USERS)
    found = [counts[str(number)] for number in range(len(weights))]
    expected = np.array(weights) / sum(weights) * len(USERS)
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_arms_of_two_experiments_are_independent():
    one, other = experiment("one"), experiment("other")
    table = np.zeros((2, 2))
    for user in USERS:
        table[int(arm_of(one, user)), int(arm_of(other, user))] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_same_salt_gives_the_same_arms():
    one, other = experiment("one", salt="s"), experiment("other", salt="s")
    assert all(arm_of(one, user) == arm_of(other, user) for user in USERS[:500])


def test_growing_share_brings_users_in_and_moves_none():
    small, large = experiment(share=0.1), experiment(share=0.5)
    before = {user: arm_of(small, user) for user in USERS}
    after = {user: arm_of(large, user) for user in USERS}
    joined = [user for user in USERS if before[user]]
    assert len(joined) / len(USERS) == pytest.approx(0.1, abs=0.01)
    assert all(before[user] == after[user] for user in joined)
    assert sum(map(bool, after.values())) / len(USERS) == pytest.approx(
        0.5, abs=0.02
    )


def test_user_is_in_the_first_experiment_that_takes_them():
    first, second = experiment("first", share=0.5), experiment("second")
    for user in USERS[:500]:
        place = assign([first, second], user)
        expected = first if assign([first], user) else second
        assert place.experiment is expected
        assert place.label == f"{expected.name}/{place.arm.name}"


def test_nobody_takes_part_in_nothing():
    assert assign([], "u") is None
    assert assign([experiment(share=0.0)], "u") is None


def test_arm_is_the_same_in_another_process():
    program = (
        "from serving.experiments.assignment import unit_hash\n"
        "print(unit_hash('salt', 'arm', 'käthe'))"
    )
    there = subprocess.check_output(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}
    )
    assert float(there) == unit_hash("salt", "arm", "käthe")


def test_hash_does_not_change_from_release_to_release():
    # By hand: blake2b of "u1", keyed by blake2b of "arm", NUL, "salt".
    assert unit_hash("salt", "arm", "u1") == 0.12391113017062638
