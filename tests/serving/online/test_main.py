import pytest

from serving.online.__main__ import main
from serving.online.meta_state_files import MetaStateFiles
from tests.serving.online.test_meta_state_files import progressed


@pytest.fixture
def folder(tmp_path):
    MetaStateFiles(tmp_path).save("shop", "f00d", progressed(3), None)
    return tmp_path


def test_versions_are_listed(folder, capsys):
    assert main(["meta-states", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "shop f00d serves version 3 of [0, 1, 2, 3]; 3 promoted" in out


def test_an_earlier_version_is_served_again(folder, capsys):
    chosen = ["--model", "shop", "--fingerprint", "f00d", "--roll-back"]
    assert main(["meta-states", str(folder), *chosen, "1"]) == 0
    assert "serves version 1 of [0, 1];" in capsys.readouterr().out
    assert MetaStateFiles(folder).load("shop", "f00d")[0].current.version == 1


def test_a_version_that_is_not_kept_is_an_error_that_names_those(
    folder, capsys
):
    chosen = ["--model", "shop", "--fingerprint", "f00d", "--roll-back"]
    assert main(["meta-states", str(folder), *chosen, "9"]) == 1
    assert "there are [0, 1, 2, 3]" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--roll-back", "1"], ["--model", "shop"]])
def test_half_a_choice_is_refused(folder, flags, capsys):
    with pytest.raises(SystemExit):
        main(["meta-states", str(folder), *flags])
    assert "--roll-back needs" in capsys.readouterr().err


def test_commands_are_told_and_others_refused(capsys):
    with pytest.raises(SystemExit):
        main(["sleep"])
    assert "work" in capsys.readouterr().err
