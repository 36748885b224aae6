"""Each check of the doctor: the sound case, the broken one, the advice."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline.doctor import machine, packages
from pipeline.doctor.check import ERROR, OK, WARNING, Check

GIB = 2**30


def statuses(checks: list[Check]) -> list[str]:
    return [check.status for check in checks]


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10), OK), ((3, 11), ERROR), ((3, 12), OK), ((3, 14), ERROR)],
)
def test_python_must_be_one_that_a_lock_is_for(
    version: tuple[int, int], status: str
) -> None:
    check = packages.check_python(version)
    assert check.status == status
    assert ("ADAPTOWER_PYTHON" in check.mend) == (status == ERROR)


def test_lock_is_read_with_its_markers(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(
        "# made by hand\n"
        "absl-py==1.4.0 \\\n    --hash=sha256:00\n    # via tfx\n"
        "old==1 ; python_version < '3' \\\n    --hash=sha256:00\n"
        "new==2 ; python_version >= '3'\n"
    )
    read = [str(r).split(";")[0] for r in packages.read_lock(lock)]
    assert read == ["absl-py==1.4.0", "new==2"]


@pytest.mark.parametrize("lock", sorted(set(packages.LOCKS.values())))
def test_shipped_locks_read_as_pip_reads_them(lock: str) -> None:
    from pip._internal.network.session import PipSession
    from pip._internal.req.req_file import parse_requirements

    path = packages.REQUIREMENTS / lock
    by_pip = {
        line.requirement.split(";")[0].strip()
        for line in parse_requirements(str(path), PipSession())
        if "python_full_version == '3.13.*'" not in line.requirement
    }
    ours = {f"{r.name}{r.specifier}" for r in packages.read_lock(path)}
    assert ours <= by_pip
    # Markers leave out at most the other Python's.
    assert len(by_pip - ours) <= len(by_pip) * ("py312" in lock)


def test_installed_as_locked_is_ok() -> None:
    required = [Requirement("tfx==1.16.0"), Requirement("six==1.17.0")]
    checks = packages.check_packages(
        required, {"tfx": "1.16.0", "six": "1.17.0", "other": "3"}
    )
    assert [c.found for c in checks] == ["2 as locked"]


def test_other_version_of_the_stack_is_an_error_of_the_rest_a_warning() -> None:
    required = [Requirement("tfx==1.16.0"), Requirement("six==1.17.0")]
    checks = list(
        packages.check_packages(required, {"tfx": "1.15.0", "six": "1.16.0"})
    )
    assert statuses(checks) == [ERROR, WARNING]
    assert "tfx 1.15.0 (tried: ==1.16.0)" in checks[0].found
    assert "six 1.16.0" in checks[1].found
    assert all(check.mend for check in checks)


def test_missing_package_is_an_error() -> None:
    checks = list(packages.check_packages([Requirement("lmdb==3.0.0")], {}))
    assert statuses(checks) == [ERROR]
    assert checks[0].found == "missing: lmdb"


def test_scann_is_an_error() -> None:
    checks = list(packages.check_packages([], {"scann": "1.4.2"}))
    assert checks[-1].name == "scann"
    assert checks[-1].status == ERROR


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"TF_USE_LEGACY_KERAS": "1"}, OK),
        ({"TF_USE_LEGACY_KERAS": "True"}, OK),
        ({"TF_USE_LEGACY_KERAS": "0"}, ERROR),
        ({}, ERROR),
    ],
)
def test_keras_2_must_be_asked_for(
    environ: dict[str, str], status: str
) -> None:
    assert packages.check_keras(environ).status == status


def test_uncompiled_package_is_a_warning_that_gives_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slowpkg").mkdir()
    source = tmp_path / "slowpkg" / "__init__.py"
    source.write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    check = packages.check_bytecode(["slowpkg", "not_installed"])
    assert check.status == WARNING
    assert check.found == "not compiled: slowpkg"
    assert "-m compileall" in check.mend
    subprocess.run([sys.executable, "-m", "compileall", "-q", source])
    assert packages.check_bytecode(["slowpkg"]).status == OK


@pytest.mark.parametrize(
    ("free", "status"), [(GIB // 2, ERROR), (3 * GIB, WARNING), (9 * GIB, OK)]
)
def test_disk_must_hold_a_run(tmp_path: Path, free: int, status: str) -> None:
    assert machine.check_disk(tmp_path, free).status == status


@pytest.mark.parametrize(("free", "status"), [(2, WARNING), (16, OK)])
def test_little_memory_is_a_warning(free: int, status: str) -> None:
    assert machine.check_memory(free * GIB).status == status


def test_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = machine.check_ports([port])
        assert check.status == WARNING
        assert check.found == f"taken: {port}"
    assert machine.check_ports([port]).status == OK


def test_model_server_on_path_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.check_model_server().found.startswith("embedded")
    binary = tmp_path / machine.MODEL_SERVER
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert machine.check_model_server().found == str(binary)


def test_compiler_is_not_needed_once_all_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.check_compiler().status == OK
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    check = machine.check_compiler()
    assert check.status == ERROR
    assert "g++" in check.mend


def test_this_machine_passes_every_check_that_stops_a_run(
    tmp_path: Path,
) -> None:
    checks = [
        *packages.check_installation(),
        *machine.check_machine(tmp_path, []),
        packages.check_python(),
    ]
    assert [check for check in checks if check.status == ERROR] == []


def test_no_cached_dataset_is_a_warning() -> None:
    assert machine.check_datasets(["a"], ["a"]).status == OK
    assert machine.check_datasets(["a", "b"], []).status == WARNING


def test_disk_of_a_folder_that_is_not_there_yet_is_the_one_it_is_made_on(
    tmp_path: Path,
) -> None:
    checks = machine.check_machine(tmp_path / "new" / "runs", ())
    [disk] = [check for check in checks if check.name == "disk"]
    assert disk.found.endswith(f"free in {tmp_path}")
