import os

import pytest

from serving.store.page_cache import PageCache, is_in_memory
from tests.helpers.patience import wait_until

BYTES = 1 << 22


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(BYTES))
    return path


def drop_from_memory(path):
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_in_memory(path):
        pytest.skip("files lie in memory here")


def test_file_just_written_is_in_memory(path):
    assert is_in_memory(path)


def test_file_with_one_page_on_disk_only_is_not_in_memory(path):
    drop_from_memory(path)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.read(BYTES - 1)
    assert is_in_memory(path)
    with path.open("rb") as file:
        start = BYTES // 2
        os.posix_fadvise(file.fileno(), start, 4096, os.POSIX_FADV_DONTNEED)
    assert not is_in_memory(path)


def test_missing_and_empty_files_are_errors(tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    for path in (empty, tmp_path / "missing"):
        with pytest.raises((OSError, ValueError)):
            is_in_memory(path)


def test_nothing_is_said_to_be_in_memory_before_it_was_looked_at(path):
    cache = PageCache(path)
    assert not cache.has_all
    wait_until(lambda: cache.has_all)
    cache.close()


def test_file_on_disk_is_fetched_when_somebody_first_asks(path):
    drop_from_memory(path)
    cache = PageCache(path)
    wait_until(lambda: cache.has_all)
    assert is_in_memory(path)
    cache.close()


def test_pages_that_go_are_noticed(path):
    cache = PageCache(path)
    wait_until(lambda: cache.has_all)
    drop_from_memory(path)
    wait_until(lambda: not cache.has_all)
    cache.close()


def test_file_that_cannot_be_looked_at_is_not_said_to_be_in_memory(path):
    cache = PageCache(path)
    wait_until(lambda: cache.has_all)
    path.unlink()
    wait_until(lambda: not cache.has_all)
    cache.close()


def test_closed_cache_looks_no_more(path):
    cache = PageCache(path)
    cache.close()
    cache.close()
    assert not cache.has_all
