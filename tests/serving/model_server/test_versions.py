import pytest

from serving.errors import UnknownModelError
from serving.model_server.versions import FIRST_RETRY_SECONDS, ModelVersions
from serving.protos.tf_serving_pb2 import ModelVersionStatus


class Loader:
    """Loads a version folder as its name; fails for the bad ones."""

    def __init__(self):
        self.bad = set()
        self.loads = []

    def __call__(self, path):
        self.loads.append(path.name)
        if path.name in self.bad:
            raise OSError("Read less bytes than requested")
        return path.name


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def versions(tmp_path, loader, clock):
    return ModelVersions("m", tmp_path, loader, lambda: clock[0])


def add(tmp_path, *names):
    for name in names:
        (tmp_path / name).mkdir()


def test_only_numbered_folders_are_versions(versions, tmp_path):
    add(tmp_path, "7", ".building-8", "9.tmp", "latest")
    versions.poll()
    assert versions.available == (7,)


def test_newest_two_are_loaded_newest_first(versions, tmp_path, loader):
    add(tmp_path, "9", "10", "8")
    versions.poll()
    assert loader.loads == ["10", "9"]
    assert versions.find() == (10, "10")


def test_nothing_is_loaded_twice(versions, tmp_path, loader):
    add(tmp_path, "1")
    versions.poll()
    versions.poll()
    assert loader.loads == ["1"]


def test_last_available_version_outlives_its_folder(versions, tmp_path):
    add(tmp_path, "1")
    versions.poll()
    (tmp_path / "1").rmdir()
    versions.poll()
    assert versions.find() == (1, "1")


def test_old_version_stays_while_newer_ones_are_bad(versions, tmp_path, loader):
    add(tmp_path, "1")
    versions.poll()
    loader.bad = {"2", "3"}
    add(tmp_path, "2", "3")
    versions.poll()
    assert versions.available == (1,)
    newest = versions.status()[0]
    assert newest.state == ModelVersionStatus.END
    assert "Read less bytes" in newest.status.error_message


def test_bad_version_is_tried_again_less_and_less_often(
    versions, tmp_path, loader, clock
):
    loader.bad = {"1"}
    add(tmp_path, "1")
    tried = []
    for second in range(40):
        clock[0] = second
        before = len(loader.loads)
        versions.poll()
        tried += [second] * (len(loader.loads) - before)
    first = int(FIRST_RETRY_SECONDS)
    assert tried == [0, first, 3 * first, 7 * first, 15 * first]
    loader.bad = set()
    clock[0] = 100.0
    versions.poll()
    assert versions.available == (1,)


def test_rollback_serves_the_older_version(versions, tmp_path):
    add(tmp_path, "1", "2")
    versions.poll()
    (tmp_path / "2").rmdir()
    versions.poll()
    assert versions.find() == (1, "1")


def test_missing_base_path_is_waited_for(tmp_path, loader):
    versions = ModelVersions("m", tmp_path / "later", loader)
    versions.poll()
    with pytest.raises(UnknownModelError, match="'m'"):
        versions.find()
    add(tmp_path, "later", "later/1")
    versions.poll()
    assert versions.available == (1,)
