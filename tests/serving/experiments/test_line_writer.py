"""Lines on disks that work, hang, or are full."""

import asyncio
import collections
import io
import os
from pathlib import Path

import pytest

from serving.errors import ExposureLogError
from serving.experiments import line_writer
from serving.experiments.line_writer import BACKLOG, DISK, LineWriter
from tests.helpers.hanging_file import HangingDisk
from tests.helpers.patience import PATIENT_SECONDS, wait_until

DAY = 19_000
MAX_WAITING = 8


@pytest.fixture
def disk(monkeypatch):
    disk = HangingDisk()
    monkeypatch.setattr(line_writer, "FileIO", disk.open)
    yield disk
    disk.go_on()


@pytest.fixture
def lost():
    return collections.Counter()


@pytest.fixture
def writer(tmp_path, lost):
    def count(reason):
        lost[reason] += 1

    writer = LineWriter(tmp_path, count, MAX_WAITING)
    yield writer
    writer.close(PATIENT_SECONDS)


def written(writer, folder):
    writer.close(PATIENT_SECONDS)
    (path,) = folder.glob("*.jsonl")
    return path.read_text().splitlines()


def test_lines_are_written_in_their_order(writer, tmp_path):
    lines = [f"line {number}" for number in range(MAX_WAITING)]
    for line in lines:
        writer.append(DAY, line)
    assert written(writer, tmp_path) == lines


def test_disk_that_hangs_holds_up_nobody_and_what_fits_in_memory_is_kept(
    writer, tmp_path, disk, lost, caplog
):
    disk.hang()
    writer.append(DAY, "first")
    wait_until(lambda: disk.is_met)
    for number in range(MAX_WAITING + 5):
        writer.append(DAY, str(number))
    assert lost == {BACKLOG: 5}
    assert caplog.text.count("Exposures are lost") == 1
    disk.go_on()
    assert written(writer, tmp_path) == ["first", *map(str, range(MAX_WAITING))]


def test_durable_line_is_synced_before_anybody_is_told_however_many_wait(
    writer, tmp_path, disk, monkeypatch
):
    synced = []
    fsync = os.fsync

    def note(descriptor):
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    disk.hang()
    writer.append(DAY, "0")
    # It makes room for another line when it takes the first one, whenever.
    wait_until(lambda: disk.is_met)
    for number in range(1, MAX_WAITING + 5):
        writer.append(DAY, str(number))

    async def run():
        told = asyncio.ensure_future(writer.append_durably(DAY, "durable"))
        await asyncio.sleep(0.05)
        assert not told.done()
        disk.go_on()
        await told
        (path,) = tmp_path.glob("*.jsonl")
        assert synced == [tmp_path, path]
        return path.read_text().splitlines()

    *before, last = asyncio.run(run())
    assert last == "durable"
    assert before == [str(number) for number in range(len(before))]
    assert len(before) >= MAX_WAITING


def test_line_of_somebody_who_gave_up_waiting_is_written_all_the_same(
    writer, tmp_path, disk
):
    async def run():
        disk.hang()
        writer.append(DAY, "first")
        for name in ("left", "left too"):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(writer.append_durably(DAY, name), 0.05)
        disk.go_on()
        await writer.append_durably(DAY, "last")

    asyncio.run(run())
    assert written(writer, tmp_path) == ["first", "left", "left too", "last"]


def test_full_disk_is_counted_told_once_and_refuses_durable_lines(
    writer, monkeypatch, lost, caplog
):
    monkeypatch.setattr(
        line_writer, "FileIO", lambda path, mode: io.FileIO("/dev/full", mode)
    )
    for _ in range(5):
        writer.append(DAY, "line")
    with pytest.raises(ExposureLogError, match="No space left"):
        asyncio.run(writer.append_durably(DAY, "durable"))
    assert lost == {DISK: 6}
    assert caplog.text.count("Exposures are lost") == 1


def test_line_that_a_full_disk_cut_off_spoils_no_other(
    writer, tmp_path, monkeypatch, lost
):
    room = [3]

    class NearlyFull(io.FileIO):
        def write(self, data):
            return super().write(data[: room.pop()] if room else data)

    monkeypatch.setattr(line_writer, "FileIO", NearlyFull)
    with pytest.raises(ExposureLogError, match="No space left"):
        asyncio.run(writer.append_durably(DAY, "cut off"))
    asyncio.run(writer.append_durably(DAY, "whole"))
    assert lost == {DISK: 1}
    assert written(writer, tmp_path) == ["cut", "whole"]


def test_end_waits_for_no_disk_that_hangs(writer, disk, caplog):
    disk.hang()
    writer.append(DAY, "line")
    writer.close(0.05)
    assert "the disk hangs" in caplog.text


def test_each_day_has_a_file_of_its_own(writer, tmp_path):
    for day in (DAY, DAY + 1, DAY + 1):
        writer.append(day, "line")
    writer.close(PATIENT_SECONDS)
    found = {
        path.name[:10]: path.read_text() for path in tmp_path.glob("*.jsonl")
    }
    assert found == {"2022-01-08": "line\n", "2022-01-09": "line\n" * 2}
