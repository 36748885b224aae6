"""A search by several processes, which find each other as Keras Tuner says."""

import json

import pytest

from tests.trainer.tuning.requests import make_request
from trainer.errors import TuningError
from trainer.tuning import workers
from trainer.tuning.trials import COMPLETED, read_trials


@pytest.mark.slow
def test_two_workers_share_the_trials_and_any_process_goes_on(
    tiny_episodes, tmp_path
):
    request = make_request(tiny_episodes, tmp_path)
    best = workers.search(request, workers=2)
    found = read_trials(request.folder)
    assert [trial.status for trial in found] == [COMPLETED] * 2
    assert best == found[0]
    state = json.loads((request.folder / "oracle.json").read_text())
    assert sorted(state["end_order"]) == ["0", "1"]
    assert len(list(request.folder.glob("worker-*.log"))) == 2
    # Nothing is left to do for one that searches alone.
    assert workers.search(request) == best
    assert read_trials(request.folder) == found


def test_workers_that_all_fail_say_why(tiny_episodes, tmp_path, monkeypatch):
    request = make_request(tiny_episodes, tmp_path)
    monkeypatch.setattr(workers.sys, "executable", "/bin/ls")
    with pytest.raises(TuningError, match=r"All 2 workers failed.*worker-1"):
        workers.search(request, workers=2)
    assert "KERASTUNER_ORACLE_IP" not in workers.os.environ
