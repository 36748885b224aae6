import pytest

from serving.errors import InvalidRequestError, UnknownModelError
from serving.model_server.model_config import ALL, ModelConfig, VersionPolicy
from serving.model_server.retries import FIRST_RETRY_SECONDS
from serving.model_server.versions import ModelVersions
from serving.protos.tf_serving_pb2 import ModelVersionStatus


class Version:
    """What a version folder loads as here."""

    def __init__(self, path):
        self.path = path
        self.name = path.name
        self.closed = False

    def close(self):
        assert not self.closed
        self.closed = True


class Loader:
    """Loads version folders; fails for the bad ones."""

    def __init__(self):
        self.bad = set()
        self.loads = []

    def __call__(self, path):
        self.loads.append(path.name)
        if path.name in self.bad:
            raise OSError("Read less bytes than requested")
        return Version(path)


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def make(tmp_path, loader, clock):
    def make(**config):
        return ModelVersions(
            "m", ModelConfig(tmp_path, **config), loader, lambda: clock[0]
        )

    return make


@pytest.fixture
def versions(make):
    return make()


def add(tmp_path, *names):
    for name in names:
        (tmp_path / name).mkdir()


def used(versions, *args, **kwargs):
    loaded = versions.acquire(*args, **kwargs)
    versions.release(loaded)
    assert loaded.model.name == str(loaded.version)
    return loaded.version


def test_only_numbered_folders_are_versions(versions, tmp_path):
    add(tmp_path, "7", ".building-8", "9.tmp", "latest")
    versions.poll()
    assert versions.available == (7,)


def test_number_that_no_request_can_name_is_no_version(versions, tmp_path):
    add(tmp_path, "7", str(1 << 63))
    versions.poll()
    assert versions.available == (7,)


def test_newest_two_are_loaded_newest_first(versions, tmp_path, loader):
    add(tmp_path, "9", "10", "8")
    versions.poll()
    assert loader.loads == ["10", "9"]
    assert used(versions) == 10


def test_all_are_loaded_if_the_policy_says_so(make, tmp_path):
    versions = make(policy=VersionPolicy(latest=ALL))
    add(tmp_path, "1", "2", "3")
    versions.poll()
    assert versions.available == (1, 2, 3)


def test_specific_versions_only_are_loaded(make, tmp_path):
    versions = make(policy=VersionPolicy(specific=frozenset({1, 3, 9})))
    add(tmp_path, "1", "2", "3", "4")
    versions.poll()
    assert versions.available == (1, 3)


def test_changed_policy_rolls_back(versions, tmp_path):
    add(tmp_path, "1", "2", "3")
    versions.poll()
    policy = VersionPolicy(specific=frozenset({1}))
    versions.configure(ModelConfig(tmp_path, policy))
    versions.poll()
    assert versions.available == (1,)


def test_version_of_another_base_path_takes_the_place_of_its_namesake(
    versions, tmp_path
):
    add(tmp_path, "1", "2", "other", "other/2")
    versions.poll()
    in_use = versions.acquire(2)
    versions.configure(ModelConfig(tmp_path / "other"))
    versions.poll()
    assert versions.available == (2,)
    loaded = versions.acquire()
    assert loaded.model.path == tmp_path / "other/2"
    versions.release(loaded)
    assert not in_use.model.closed
    versions.release(in_use)
    versions.poll()
    assert in_use.model.closed
    assert not loaded.model.closed
    assert versions.status(2)[0].state == ModelVersionStatus.AVAILABLE


def test_namesake_answers_until_a_version_of_another_base_path_loads(
    versions, tmp_path, loader
):
    loader.bad = {"3"}
    add(tmp_path, "2", "3", "other", "other/2", "other/3")
    versions.poll()
    loader.bad = {"2"}
    before = versions.acquire(2)
    versions.release(before)
    versions.configure(ModelConfig(tmp_path / "other", VersionPolicy(latest=2)))
    (tmp_path / "other/3").rmdir()
    versions.poll()
    assert versions.acquire(2) is before
    versions.release(before)
    assert versions.status(2)[0].state == ModelVersionStatus.AVAILABLE
    # What failed under the other base path says nothing of this one.
    add(tmp_path, "other/3")
    versions.poll()
    assert versions.available == (3,)
    assert before.model.closed


def test_label_stands_for_its_version(make, tmp_path):
    versions = make(labels={"stable": 1, "canary": 2, "gone": 7})
    add(tmp_path, "1", "2")
    versions.poll()
    assert used(versions, label="stable") == 1
    assert used(versions, label="canary") == 2
    with pytest.raises(UnknownModelError, match="7"):
        used(versions, label="gone")
    with pytest.raises(InvalidRequestError, match=r"beta.*stable"):
        used(versions, label="beta")


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
    assert used(versions) == 1


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
    assert used(versions) == 1


def test_dropped_version_is_freed_after_its_last_request(versions, tmp_path):
    add(tmp_path, "1")
    versions.poll()
    first, second = versions.acquire(1), versions.acquire(1)
    add(tmp_path, "2", "3")
    versions.poll()
    with pytest.raises(UnknownModelError):
        versions.acquire(1)
    versions.release(first)
    versions.poll()
    assert versions.status(1)[0].state == ModelVersionStatus.UNLOADING
    assert not second.model.closed
    versions.release(second)
    versions.poll()
    assert second.model.closed
    assert versions.status(1)[0].state == ModelVersionStatus.END


def test_retired_model_frees_every_version(versions, tmp_path):
    add(tmp_path, "1", "2")
    versions.poll()
    in_use = versions.acquire(1)
    assert not versions.retire()
    versions.release(in_use)
    assert versions.retire()
    assert versions.available == ()


def test_missing_base_path_is_waited_for(tmp_path, loader):
    versions = ModelVersions("m", ModelConfig(tmp_path / "later"), loader)
    versions.poll()
    with pytest.raises(UnknownModelError, match="'m'"):
        used(versions)
    add(tmp_path, "later", "later/1")
    versions.poll()
    assert versions.available == (1,)
