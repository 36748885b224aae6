import pytest

from serving.store import LmdbStore
from serving.store.__main__ import main
from tests.contract.adaptive_store_suite import KEY, make_record


@pytest.fixture
def folder(tmp_path):
    with LmdbStore(tmp_path, 1 << 24) as store:
        store.compare_and_put(make_record(age_ms=3 * 24 * 3600 * 1000))
        store.compare_and_put(make_record("u2", age_ms=0))
    return tmp_path


def run(folder, *arguments):
    return main([*arguments, f"--store={folder}", "--store-map-bytes=16777216"])


def test_stats_tell_what_users_take(folder, capsys):
    assert run(folder, "stats", "adaptower") == 0
    words = capsys.readouterr().out
    assert words.startswith("2 users of 'adaptower'")
    assert "1.00 versions each" in words
    run(folder, "stats", "other")
    assert "No users" in capsys.readouterr().out


def test_purge_removes_users_unseen_for_long(folder, capsys):
    assert run(folder, "purge", "--store-ttl-days=2") == 0
    assert capsys.readouterr().out.startswith("1 expired")
    run(folder, "stats", "adaptower")
    assert capsys.readouterr().out.startswith("1 users")


def test_retire_drops_the_weights_of_a_version(folder, capsys):
    assert run(folder, "retire", "adaptower", "f") == 0
    assert "2 users" in capsys.readouterr().out
    with LmdbStore(folder, 1 << 24) as store:
        record = store.get(KEY)
    assert record.weights_for("f", 5) is None
    assert record.reservoir == make_record().reservoir


def test_trouble_is_told_without_a_traceback(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("no store")
    assert run(path, "purge") == 1
    assert str(path) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["purge"])
    assert "--store is needed" in capsys.readouterr().err
