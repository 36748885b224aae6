import pytest

from serving.online.__main__ import main
from serving.online.meta_stage_config import open_meta_states
from serving.online.meta_state_files import MetaStateFiles
from serving.store.config import StoreConfig
from tests.contract.meta_states_suite import progressed
from tests.helpers.redis_server import RunningRedis


def folder_states(tmp_path):
    yield str(tmp_path), MetaStateFiles(tmp_path)


def redis_states(_):
    server = RunningRedis()
    states = open_meta_states(StoreConfig(server.url))
    yield server.url, states
    states.close()
    server.close()


@pytest.fixture(params=[folder_states, redis_states], ids=["folder", "redis"])
def place(request, tmp_path):
    """Where some versions are: as the command takes it, and opened."""
    places = request.param(tmp_path)
    location, states = next(places)
    states.save("shop", "f00d", progressed(3), None)
    yield location, states
    next(places, None)


def test_versions_are_listed(place, capsys):
    assert main(["meta-states", place[0]]) == 0
    out = capsys.readouterr().out
    assert "shop f00d serves version 3 of [0, 1, 2, 3]; 3 promoted" in out


def test_an_earlier_version_is_served_again(place, capsys):
    location, states = place
    chosen = ["--model", "shop", "--fingerprint", "f00d", "--roll-back"]
    assert main(["meta-states", location, *chosen, "1"]) == 0
    assert "serves version 1 of [0, 1];" in capsys.readouterr().out
    assert states.load("shop", "f00d")[0].current.version == 1


def test_a_version_that_is_not_kept_is_an_error_that_names_those(place, capsys):
    chosen = ["--model", "shop", "--fingerprint", "f00d", "--roll-back"]
    assert main(["meta-states", place[0], *chosen, "9"]) == 1
    assert "there are [0, 1, 2, 3]" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_an_error_that_names_it(capsys):
    assert main(["meta-states", "redis://localhost:1"]) == 1
    assert "localhost:1" in capsys.readouterr().err


def test_a_server_without_a_disk_is_used_if_that_is_said(capsys):
    server = RunningRedis("--appendonly", "no")
    location = ["meta-states", server.url]
    assert main(location) == 1
    assert "do without durable" in capsys.readouterr().err
    assert main([*location, "--store-not-durable"]) == 0
    server.close()


@pytest.mark.parametrize("flags", [["--roll-back", "1"], ["--model", "shop"]])
def test_half_a_choice_is_refused(tmp_path, flags, capsys):
    with pytest.raises(SystemExit):
        main(["meta-states", str(tmp_path), *flags])
    assert "--roll-back needs" in capsys.readouterr().err


def test_commands_are_told_and_others_refused(capsys):
    with pytest.raises(SystemExit):
        main(["sleep"])
    assert "work" in capsys.readouterr().err
