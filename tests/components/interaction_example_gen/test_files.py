"""Finding input files, and knowing when they changed."""

import datetime
import os

import pytest

from components.errors import InputDataError
from components.interaction_example_gen import files

DAY = 86_400


def at(path, *date):
    time = datetime.datetime(*date, tzinfo=datetime.timezone.utc).timestamp()
    path.write_text("x")
    os.utime(path, (time, time))
    return int(time)


def test_patterns_match_files_of_their_folder_in_order(tmp_path):
    for name in ("b-2.csv", "b-1.csv", "a.csv", "b-3.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "b-4.csv").mkdir()
    found = files.find_files(str(tmp_path), ("b-*.csv", "a.csv"))
    assert [info.base_name for info in found] == ["a.csv", "b-1.csv", "b-2.csv"]


def test_absolute_name_needs_no_folder(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    found = files.find_files("/nowhere", (str(tmp_path / "a.csv"),))
    assert [info.base_name for info in found] == ["a.csv"]


def test_folder_may_be_a_uri(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    uri = tmp_path.as_uri()
    (info,) = files.find_files(uri, ("a.csv",))
    assert files.open_file(info.path, uri).read() == b"x"


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputDataError, match="no file 'a-\\*'"):
        files.find_files(str(tmp_path), ("a-*",))


def test_events_are_bounded_by_the_day_after_the_newest_file_came(tmp_path):
    (tmp_path / "new").write_text("x")
    came = (tmp_path / "new").stat().st_ctime
    bound = files.newest_possible_event(files.find_files(str(tmp_path), ("*",)))
    assert bound % DAY == 0
    assert DAY <= bound - came <= 2 * DAY


@pytest.mark.parametrize("year", [1980, 2000])
def test_date_that_an_archive_gave_a_file_is_not_believed(tmp_path, year):
    at(tmp_path / "zipped", year, 1, 1)
    bound = files.newest_possible_event(files.find_files(str(tmp_path), ("*",)))
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    assert now < bound < now + 3 * DAY
