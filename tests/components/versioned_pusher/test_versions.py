"""Versions appear whole or not at all, whatever happens while pushing."""

import contextlib
import shutil
from pathlib import Path

import pytest

from components.errors import PushError
from components.versioned_pusher import versions
from serving.contract.manifest import MANIFEST_FILE
from tests.helpers.folders import contents, write_files

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 100,
    "assets/items.txt": b"001\n",
    MANIFEST_FILE: b"{}",
}


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_files(tmp_path / "model", FILES)


def test_a_pushed_version_has_every_file_of_the_model(model_dir, tmp_path):
    push_dir = tmp_path / "serving" / "adaptower"
    version = versions.push_version(model_dir, push_dir)
    assert versions.listed_versions(push_dir) == [version]
    assert contents(push_dir / str(version)) == FILES
    # Readable by a model server that runs as someone else.
    assert (push_dir / str(version)).stat().st_mode & 0o055 == 0o055


def test_two_pushes_in_one_second_give_two_rising_versions(
    model_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(versions.time, "time", lambda: 1_700_000_000.5)
    push_dir = tmp_path / "base"
    first = versions.push_version(model_dir, push_dir)
    second = versions.push_version(model_dir, push_dir)
    assert (first, second) == (1_700_000_000, 1_700_000_001)
    assert versions.listed_versions(push_dir) == [first, second]


def test_a_clock_that_went_back_still_gives_a_higher_version(tmp_path):
    (tmp_path / "1700000009").mkdir()
    (tmp_path / "notes").mkdir()
    assert versions.next_version(tmp_path, now=1_600_000_000) == 1_700_000_010


def test_a_failed_copy_removes_its_staging_folder(model_dir, tmp_path):
    def disk_full(source: Path, destination: Path) -> None:
        raise OSError(28, "No space left on device")

    push_dir = tmp_path / "base"
    with pytest.raises(OSError, match="No space"):
        versions.push_version(model_dir, push_dir, copy_file=disk_full)
    assert versions.listed_versions(push_dir) == []
    assert not list(tmp_path.glob(".staging-*"))


def test_only_older_versions_that_were_pushed_here_are_removed(
    model_dir, tmp_path
):
    push_dir = tmp_path / "base"
    by_hand = push_dir / "1"
    by_hand.mkdir(parents=True)
    pushed = [versions.push_version(model_dir, push_dir) for _ in range(4)]
    removed = versions.remove_old_versions(push_dir, keep_versions=2)
    assert removed == pushed[:2]
    assert versions.listed_versions(push_dir) == [1, *pushed[2:]]
    assert not list(tmp_path.glob(".staging-*"))


def test_version_that_another_pusher_removed_meanwhile_is_no_error(
    model_dir, tmp_path, monkeypatch
):
    push_dir = tmp_path / "base"
    pushed = [versions.push_version(model_dir, push_dir) for _ in range(3)]
    only_pusher = versions._only_pusher

    @contextlib.contextmanager
    def after_the_other(folder):
        with only_pusher(folder):
            shutil.rmtree(push_dir / str(pushed[0]))
            yield

    monkeypatch.setattr(versions, "_only_pusher", after_the_other)
    assert versions.remove_old_versions(push_dir, 1) == [pushed[1]]
    assert versions.listed_versions(push_dir) == [pushed[2]]


def test_keeping_no_version_is_refused(tmp_path):
    with pytest.raises(PushError, match="use 1 or more"):
        versions.remove_old_versions(tmp_path, keep_versions=0)


def test_a_bucket_url_is_refused(model_dir):
    with pytest.raises(PushError, match="object stores"):
        versions.push_version(model_dir, "gs://bucket/adaptower")
