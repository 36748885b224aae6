"""`adaptower rebase`: what an operator sees and what the store holds then."""

import numpy as np
import pytest

from pipeline import cli
from pipeline.errors import ConfigError
from pipeline.rebase import find_model
from serving.contract.support import SupportEvent
from serving.store import (
    LmdbStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from tests.helpers.toy_model import (
    NUM_ADAPTIVE,
    ToyOracle,
    ToyParameters,
    export_toy,
)

OLD, NEW = (ToyParameters.from_seed(seed) for seed in (1, 2))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "shop"
    export_toy(folder / "serving" / "adaptower", version=7, seed=1)
    export_toy(folder / "serving" / "adaptower", version=11, seed=2)
    return folder


def key(number):
    return UserKey("adaptower", f"user {number}")


def test_every_user_of_a_run_is_learned_and_the_outcome_is_printed(
    run_dir, capsys
):
    with LmdbStore(run_dir / "store") as store:
        store.compare_and_put_many(
            [
                UserRecord(
                    key=key(number),
                    fingerprint=fingerprint_digest(OLD.fingerprint),
                    sequence=1,
                    support_count=1,
                    weights=np.zeros(NUM_ADAPTIVE, np.float32),
                    reservoir=(SupportEvent("003", 1.0),) if number else (),
                )
                for number in range(600)
            ]
        )
    assert cli.main(["rebase", str(run_dir)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "serving/adaptower/11" in printed.replace(" ", "")
    assert "600 users known" in printed
    assert "rebased 599 no_events 1" in printed
    weights, _, _ = ToyOracle(NEW).adapt({}, ["003"], [1.0])
    with LmdbStore(run_dir / "store") as store:
        learned = store.get(key(599)).weights_for(NEW.fingerprint, NUM_ADAPTIVE)
    np.testing.assert_allclose(learned.weights, weights, atol=1e-5)

    assert cli.main(["rebase", str(run_dir)]) == 0
    assert "rebased" not in capsys.readouterr().out


def test_a_model_that_is_not_pushed_needs_the_store_named(run_dir, capsys):
    folder = run_dir / "serving" / "adaptower" / "7"
    assert find_model(folder, "adaptower").folder == folder
    assert cli.main(["rebase", str(folder)]) == 1
    assert "--store" in capsys.readouterr().err


def test_a_store_that_is_not_there_is_an_error_and_is_not_made(
    run_dir, tmp_path, capsys
):
    missing = tmp_path / "typo"
    assert cli.main(["rebase", str(run_dir), f"--store={missing}"]) == 1
    assert "no store in" in capsys.readouterr().err
    assert not missing.exists()


def test_a_model_that_the_run_did_not_push_is_named_with_those_it_did(run_dir):
    with pytest.raises(ConfigError, match="'joint', only adaptower"):
        find_model(run_dir, "joint")


def test_a_run_that_is_not_there_is_an_error_with_a_way_out(tmp_path):
    with pytest.raises(ConfigError, match="no run in"):
        find_model(tmp_path / "nowhere", "adaptower")
