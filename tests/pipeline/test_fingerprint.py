"""A fingerprint changes with the sources, and with nothing else."""

import sys

import pytest

from pipeline.fingerprint import code_fingerprint


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Modules `root` -> `used` -> `deep`, and `unused`."""
    folder = tmp_path / "traced"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text("")
    (folder / "root.py").write_text("import numpy\nimport traced.used\n")
    (folder / "used.py").write_text(
        "def late():\n    from traced.inner import deep\n    return deep\n"
    )
    (folder / "inner" / "deep.py").write_text("import traced.root\n")
    (folder / "unused.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    # Looking a module up imports the packages it is in.
    for name in [name for name in sys.modules if name.startswith("traced")]:
        del sys.modules[name]


def fingerprint(*roots):
    code_fingerprint.cache_clear()
    return code_fingerprint(*roots, packages=("traced",))


@pytest.mark.parametrize(
    "file", ["root.py", "used.py", "inner/deep.py", "inner/__init__.py"]
)
def test_edit_of_what_is_imported_changes_it(package, file):
    before = fingerprint("traced.root")
    with (package / file).open("a") as source:
        source.write("x = 1\n")
    assert fingerprint("traced.root") != before


def test_edit_of_what_is_not_imported_does_not_change_it(package):
    before = fingerprint("traced.root")
    (package / "unused.py").write_text("x = 1\n")
    (package / "inner" / "new.py").write_text("")
    assert fingerprint("traced.root") == before


def test_package_holds_all_its_modules(package):
    before = fingerprint("traced")
    (package / "unused.py").write_text("x = 1\n")
    assert fingerprint("traced") != before


def test_code_is_not_run(package):
    (package / "inner" / "deep.py").write_text("raise SystemExit")
    (package / "root.py").write_text("from traced.inner.deep import name\n")
    fingerprint("traced.root", "traced.inner")


def test_unknown_root_is_named():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        code_fingerprint("no_such_module")


def test_component_has_the_contract_it_imports_in_its_fingerprint():
    """On the real packages: the evaluator's figures come from the contract."""
    alone = code_fingerprint(
        "components.cold_start_evaluator.component", packages=("components",)
    )
    assert alone != code_fingerprint(
        "components.cold_start_evaluator.component"
    )
