"""What every results file says of how it came about."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.about import ROOT, about, command


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--run", f"{ROOT}/runs/shop"], ["--run", "runs/shop"]),
        (["--run", "runs/shop"], ["--run", "runs/shop"]),
        (["--output=/home/me/q.json"], ["--output=q.json"]),
        (["--flags", "--store /home/me/s --port 1"], None),
        (["--store", "redis://host:1/0"], ["--store", "redis://host:1/0"]),
        (["--set", "a=1", "x y"], ["--set", "a=1", "x y"]),
    ],
)
def test_command_is_exact_but_for_where_files_lie(given, expected):
    expected = expected or ["--flags", "--store s --port 1"]
    words = shlex.split(command("benchmarks.store", given))
    assert words == ["python", "-m", "benchmarks.store", *expected]


def test_machine_day_and_versions_are_told():
    told = about("benchmarks.store")
    assert re.fullmatch(r".+, \d+ cores", told["machine"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", told["date"])
    assert told["versions"]["numpy"] == np.__version__
    version = subprocess.run(
        [sys.executable, "--version"], capture_output=True, text=True
    )
    assert version.stdout.split() == ["Python", told["python"]]
