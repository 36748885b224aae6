import os

import numpy as np
import pytest

from serving.contract.errors import MetaStateError
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import MetaState
from serving.contract.meta_update import MetaGradient, MetaProgress
from serving.errors import StoreError
from serving.online.meta_state_files import MetaStateFiles, roll_back

CONFIG = OnlineMetaConfig()
FINGERPRINT = "f00d"


@pytest.fixture
def files(tmp_path):
    return MetaStateFiles(tmp_path / "meta_states")


def progressed(number, progress=None):
    """Some versions further than `progress`, or than an export."""
    progress = progress or MetaProgress.start(
        MetaState(np.zeros(2), np.zeros((1, 2)))
    )
    gradient = MetaGradient(np.ones(2), np.ones((1, 2)), np.ones(1))
    for _ in range(number):
        step = progress.propose(gradient, CONFIG)
        progress = progress.judge(step, np.ones(1), np.zeros(1), CONFIG)
    return progress


def test_what_was_saved_is_loaded(files):
    assert files.load("m", FINGERPRINT) == (None, None)
    stamp = files.save("m", FINGERPRINT, progressed(3), None)
    progress, loaded_stamp = files.load("m", FINGERPRINT)
    assert loaded_stamp == stamp == files.stamp("m", FINGERPRINT)
    assert progress.to_dict() == progressed(3).to_dict()


def test_models_and_fixed_parts_do_not_mix(files):
    files.save("m", FINGERPRINT, progressed(1), None)
    for model, fingerprint in (("m", "beef"), ("n", FINGERPRINT)):
        assert files.load(model, fingerprint) == (None, None)


@pytest.mark.parametrize("model", ["a/b", "..", "ü m", ".lock"])
def test_any_model_name_has_a_folder_of_its_own(files, model, tmp_path):
    files.save(model, FINGERPRINT, progressed(1), None)
    assert files.load(model, FINGERPRINT)[0] is not None
    assert files.known() == [(model, FINGERPRINT)]
    (folder,) = (tmp_path / "meta_states").iterdir()
    assert folder.parent == tmp_path / "meta_states"


def test_who_did_not_see_the_newest_file_is_refused(files):
    first = files.save("m", FINGERPRINT, progressed(1), None)
    second = files.save("m", FINGERPRINT, progressed(2), first)
    assert files.save("m", FINGERPRINT, progressed(5), first) is None
    assert files.save("m", FINGERPRINT, progressed(5), None) is None
    assert files.load("m", FINGERPRINT)[0].current.version == 2
    assert files.save("m", FINGERPRINT, progressed(3), second) is not None


def test_a_crash_while_writing_leaves_the_old_content(files, monkeypatch):
    stamp = files.save("m", FINGERPRINT, progressed(1), None)

    def crash(*_):
        raise OSError("no power")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(StoreError, match="no power"):
        files.save("m", FINGERPRINT, progressed(2), stamp)
    monkeypatch.undo()
    assert files.load("m", FINGERPRINT)[0].current.version == 1
    assert files.save("m", FINGERPRINT, progressed(2), stamp) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"format": 9}'])
def test_a_damaged_file_is_named_and_replaced(files, content, tmp_path, caplog):
    files.save("m", FINGERPRINT, progressed(1), None)
    (path,) = tmp_path.glob("**/*.json")
    path.write_bytes(content)
    progress, stamp = files.load("m", FINGERPRINT)
    assert progress is None
    assert str(path) in caplog.text
    assert files.save("m", FINGERPRINT, progressed(2), stamp) is not None
    assert files.load("m", FINGERPRINT)[0].current.version == 2


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    files = MetaStateFiles(tmp_path / "file")
    with pytest.raises(StoreError, match="--meta-states"):
        files.save("m", FINGERPRINT, progressed(1), None)
    with pytest.raises(StoreError, match="--meta-states"):
        files.load("m", FINGERPRINT)


def test_rolling_back_changes_the_file(files, tmp_path):
    files.save("m", FINGERPRINT, progressed(4), None)
    roll_back(tmp_path / "meta_states", "m", FINGERPRINT, 2)
    progress, stamp = files.load("m", FINGERPRINT)
    assert progress.current.version == 2
    further = progressed(1, progress)
    assert further.current.version == 5
    assert files.save("m", FINGERPRINT, further, stamp) is not None


def test_rolling_back_to_what_is_not_there_is_refused(files, tmp_path):
    with pytest.raises(MetaStateError, match="nothing to roll back"):
        roll_back(tmp_path / "meta_states", "m", FINGERPRINT, 0)
    files.save("m", FINGERPRINT, progressed(2), None)
    with pytest.raises(MetaStateError, match=r"there are \[0, 1, 2\]"):
        roll_back(tmp_path / "meta_states", "m", FINGERPRINT, 7)
