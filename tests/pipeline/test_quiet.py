"""Standard error goes to a file, from wherever it is written."""

import os
import subprocess
import sys

import pytest

from pipeline.quiet import stderr_to_file


def test_python_c_and_children_write_to_the_file(tmp_path, capfd):
    log = tmp_path / "logs" / "pipeline.log"
    with stderr_to_file(log):
        print("from python", file=sys.__stderr__)
        os.write(2, b"from below\n")
        subprocess.run(
            [sys.executable, "-c", "import os; os.write(2, b'from a child')"],
            check=True,
        )
        print("for people")
    assert log.read_text() == "from python\nfrom below\nfrom a child"
    captured = capfd.readouterr()
    assert captured.out == "for people\n"
    assert captured.err == ""


def test_standard_error_is_back_after_an_error(tmp_path, capfd):
    with pytest.raises(KeyError), stderr_to_file(tmp_path / "log"):
        raise KeyError
    os.write(2, b"visible again")
    assert capfd.readouterr().err == "visible again"


def test_log_of_an_earlier_run_is_kept(tmp_path):
    for word in (b"one ", b"two"):
        with stderr_to_file(tmp_path / "log"):
            os.write(2, word)
    assert (tmp_path / "log").read_text() == "one two"
