"""Finding a Python and knowing when nothing is to be done.

The installation itself runs whenever `make` meets a fresh clone; here are the
decisions before it, against folders made to look like odd machines.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bootstrap() -> ModuleType:
    path = ROOT / "scripts" / "bootstrap.py"
    spec = importlib.util.spec_from_file_location("bootstrap", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH and nothing at home; gives the folder."""
    for name in ("bin", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("PYENV_ROOT", "ADAPTOWER_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def fake_python(path: Path, version: str) -> str:
    """A program that answers every question with a version, or fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = f"echo {version}" if version else "echo 'pyenv: no' >&2; exit 127"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_pyenv_shim_that_fails_is_passed_over(
    bootstrap: ModuleType, empty_machine: Path
) -> None:
    fake_python(empty_machine / "bin" / "python3.10", "")
    versions = empty_machine / "home" / ".pyenv" / "versions"
    real = fake_python(versions / "3.10.13" / "bin" / "python3.10", "3.10")
    found = bootstrap.find_python([bootstrap.TFX_116])
    assert found == (real, bootstrap.TFX_116)


def test_python_under_a_wrong_name_is_passed_over(
    bootstrap: ModuleType, empty_machine: Path
) -> None:
    fake_python(empty_machine / "bin" / "python3.10", "3.9")
    assert bootstrap.find_python([bootstrap.TFX_116]) is None


def test_preferred_stack_wins_where_both_can_run(
    bootstrap: ModuleType, empty_machine: Path
) -> None:
    fake_python(empty_machine / "bin" / "python3.10", "3.10")
    newer = fake_python(empty_machine / "bin" / "python3.13", "3.13")
    stacks = [bootstrap.TFX_121, bootstrap.TFX_116]
    assert bootstrap.find_python(stacks) == (newer, bootstrap.TFX_121)


@pytest.mark.parametrize(
    ("library", "names"),
    [
        (("glibc", "2.36"), ["TFX 1.16"]),
        (("glibc", "2.39"), ["TFX 1.21", "TFX 1.16"]),
        (("glibc", "2.4"), ["TFX 1.16"]),
        (("", ""), ["TFX 1.16"]),
    ],
)
def test_stack_is_chosen_by_the_c_library(
    bootstrap: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    library: tuple[str, str],
    names: list[str],
) -> None:
    monkeypatch.setattr(bootstrap.platform, "libc_ver", lambda: library)
    assert [s.name for s in bootstrap.stacks_for_this_machine()] == names


def test_other_processor_is_told_what_to_do(
    bootstrap: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "aarch64")
    with pytest.raises(SystemExit):
        bootstrap.stacks_for_this_machine()
    assert "Linux on x86-64 only" in capsys.readouterr().err


def test_chosen_python_that_does_not_fit_is_refused(
    bootstrap: ModuleType,
    empty_machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = fake_python(empty_machine / "my-python", "3.8")
    monkeypatch.setenv("ADAPTOWER_PYTHON", chosen)
    with pytest.raises(SystemExit):
        bootstrap.find_python([bootstrap.TFX_116])
    assert "is Python 3.8; this machine can use 3.10" in capsys.readouterr().err


def test_no_python_and_no_uv_says_what_to_install(
    bootstrap: ModuleType,
    empty_machine: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        bootstrap.fetch_python(None, bootstrap.TFX_116)
    assert "pyenv install 3.10" in capsys.readouterr().err


def test_missing_compiler_is_noticed_before_installing(
    bootstrap: ModuleType, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    python = fake_python(empty_machine / "bin" / "python3.10", "3.10")
    assert "g++" in bootstrap.missing_for_compiling(python)
    fake_python(empty_machine / "bin" / "g++", "12")
    assert "headers" in bootstrap.missing_for_compiling(python)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which bootstrap.sh finds its work done."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "bootstrap.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "bootstrap.py").write_text("print('working')\n")
    fake_python(tmp_path / ".venv" / "bin" / "python", "3.10")
    (tmp_path / "setup.py").write_text("# as it was\n")
    digest = hashlib.sha256(b"# as it was\n").hexdigest()
    stamp = f"# {tmp_path}\n{digest}  setup.py\n"
    (tmp_path / ".venv" / "adaptower.stamp").write_text(stamp)
    return tmp_path


def run_shell(folder: Path) -> str:
    environ = {**os.environ}
    environ.pop("ADAPTOWER_VENV", None)
    done = subprocess.run(
        ["bash", "scripts/bootstrap.sh"],
        cwd=folder,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_nothing_is_done_when_nothing_changed(clone: Path) -> None:
    assert run_shell(clone) == ""


def test_changed_requirements_are_noticed(clone: Path) -> None:
    (clone / "setup.py").write_text("# changed\n")
    assert run_shell(clone) == "working"


def test_moved_environment_is_noticed(clone: Path) -> None:
    moved = clone.rename(clone.with_name("moved"))
    assert run_shell(moved) == "working"


def test_environment_whose_python_is_gone_is_noticed(clone: Path) -> None:
    (clone / ".venv" / "bin" / "python").unlink()
    assert run_shell(clone) == "working"


def test_stamp_is_one_that_the_shell_accepts(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    bootstrap.write_stamp(bootstrap.TFX_116.lock)
    command = ["sha256sum", "--check", "--strict", "--status"]
    subprocess.run([*command, tmp_path / "stamp"], cwd=ROOT, check=True)
