"""Room that is kept back in a file that is full, and files that are closed."""

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving import lmdb_file
from serving.lmdb_file import LmdbFile
from tests.helpers.patience import wait_until

MAP_BYTES = 1 << 20
# For a file that is full.
TOO_LARGE = MAP_BYTES // 4


class FullError(Exception):
    pass


class FailedError(Exception):
    pass


@pytest.fixture
def file(tmp_path):
    file = LmdbFile(tmp_path, MAP_BYTES, 0, FailedError, FullError)
    yield file
    file.close()


def key(number):
    # Neighbours are far apart, as digests are.
    return (number * 2_654_435_761 % (1 << 32)).to_bytes(4, "big")


def put(numbers, size):
    def work(transaction):
        for number in numbers:
            transaction.put(key(number), bytes(size))

    return work


def fill(file):
    """Writes to the brim, the last bits one by one; returns how many keys."""
    end = 0
    for size, at_once in ((300, 64), (300, 8), (300, 1), (30, 1), (1, 1)):
        with contextlib.suppress(FullError):
            while True:
                file.write(put(range(end, end + at_once), size))
                end += at_once
    return end


def remove(file, *numbers):
    """Leaves short marks in place of what there was, or of nothing."""

    def work(transaction):
        for number in numbers:
            transaction.delete(key(number))
            transaction.put(key(number), bytes(16))

    file.write(work, removes=True)


def test_everybody_can_be_removed_from_a_full_file_also_who_was_not_in_it(file):
    end = fill(file)
    assert end > 1500
    for stranger in range(end, end + 150):
        remove(file, stranger)
    with pytest.raises(FullError):
        file.write(put([end], TOO_LARGE))
    for gone in range(0, end, 4):
        remove(file, *range(gone, gone + 4))
    file.write(put([end], 300))


def test_writes_that_are_refused_take_nothing_of_what_is_kept_back(file):
    end = fill(file)
    for attempt in range(end, end + 100):
        with contextlib.suppress(FullError):
            file.write(put([attempt], 300))
    for stranger in range(end + 100, end + 150):
        remove(file, stranger)


def test_removal_that_comes_together_with_a_refused_write_is_done(file):
    end = fill(file)
    with ThreadPoolExecutor() as threads:
        with file._commits._committing:
            refused = threads.submit(file.write, put([end], TOO_LARGE))
            removed = threads.submit(remove, file, 0)
            wait_until(lambda: len(file._commits._waiting) == 2)
        with pytest.raises(FullError):
            refused.result()
        removed.result()
    with file.reading() as transaction:
        assert transaction.get(key(0)) == bytes(16)


def test_closed_file_says_so_also_when_it_is_time_to_look_after_readers(
    file, monkeypatch
):
    monkeypatch.setattr(lmdb_file, "_CHECK_READERS_SECONDS", 0.0)
    file.close()
    for removes in (False, True):
        with pytest.raises(FailedError, match="closed"):
            file.write(put([1], 1), removes)


def test_file_of_others_stays_as_large_as_they_made_it(file, tmp_path):
    """A file beyond the end of their map they could not read any more."""
    program = (
        "import sys\n"
        "from serving.lmdb_file import SAME_MAP_BYTES, LmdbFile\n"
        "file = LmdbFile(\n"
        "    sys.argv[1], SAME_MAP_BYTES, 0, OSError, MemoryError\n"
        ")\n"
        "try:\n"
        "    for number in range(10_000):\n"
        "        file.write(lambda t: t.put(b'%d' % number, bytes(1000)))\n"
        "except MemoryError:\n"
        "    print('full')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "full\n"
    with file.reading() as transaction:
        assert transaction.get(b"0") == bytes(1000)
    remove(file, 0)
