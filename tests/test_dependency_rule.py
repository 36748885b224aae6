"""Who may import whom, read from the source.

Imports inside functions count as well: lazy or not, they tie packages
together. The one exception a rule has is written beside it.
"""

import ast
import collections
import graphlib
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
OURS = ("components", "pipeline", "serving", "trainer")

# Package to the packages of ours that it may import; the longest that fits.
ALLOWED = {
    "serving.contract": ("serving.contract",),
    "serving": ("serving",),
    "trainer": ("trainer", "serving.contract"),
    "components": (
        "components",
        "serving.contract",
        "serving.store",
        "serving.event_log",
        # What Rebase shares with the gateway's online stage.
        "serving.online.relearning",
        "serving.online.told",
        "serving.errors",
        # How large the store's and the log's files are made.
        "serving.lmdb_file",
        "serving.ports",
        # What a gateway will refuse, no model should be trained for.
        "serving.limits",
    ),
    "pipeline": OURS,
}
# The embedded model server is a process of its own.
MODEL_SERVER = "serving.model_server"
HEAVY = ("apache_beam", "keras", "tensorflow", "tf_keras", "tfx", "tfx_bsl")
HEAVY_PREFIXES = ("tensorflow_",)

# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "farmhash": "pyfarmhash",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "opentelemetry": "opentelemetry-api",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "pyyaml",
}


def modules(root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """Dotted name and path of each module of ours."""
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            yield ".".join(parts), path


def imports(source: str, module: str, is_package: bool) -> set[str]:
    """Dotted names that a module imports, wherever in it.

    `from a import b` gives both `a` and `a.b`, as b may be a module.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - is_package
                parents = module.split(".")
                parents = parents[: len(parents) - up]
                base = ".".join([*parents, *([base] if base else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """What a module imports though it may not."""
    rule = max((p for p in ALLOWED if within(module, p)), key=len)
    may_be_heavy = not within(module, "serving") or within(module, MODEL_SERVER)

    def forbidden(name: str) -> bool:
        top = name.split(".")[0]
        if top in OURS:
            # A package on the way to an allowed one is not what is meant.
            return not any(
                within(name, allowed) or within(allowed, name)
                for allowed in ALLOWED[rule]
            )
        if rule == "serving.contract":
            return top != "numpy" and top not in sys.stdlib_module_names
        is_heavy = top in HEAVY or top.startswith(HEAVY_PREFIXES)
        return is_heavy and not may_be_heavy

    return sorted(filter(forbidden, imports(source, module, is_package)))


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(*m, id=m[0]) for m in modules()]
)
def test_module_imports_only_what_it_may(module: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not violations(module, source, path.name == "__init__.py")


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("serving.gateway", "import tensorflow as tf", ["tensorflow"]),
        (
            "serving.gateway",
            "def f():\n    from tensorflow_serving.apis import predict_pb2",
            [
                "tensorflow_serving.apis",
                "tensorflow_serving.apis.predict_pb2",
            ],
        ),
        (
            "serving.gateway",
            "import importlib\nimportlib.import_module('tfx.components')",
            ["tfx.components"],
        ),
        ("serving.store.lmdb", "import lmdb, grpc, numpy", []),
        ("serving.gateway", "import pipeline.cli", ["pipeline.cli"]),
        ("serving.contract.metrics", "import json, numpy", []),
        ("serving.contract.metrics", "import lmdb", ["lmdb"]),
        (
            "serving.contract.metrics",
            "from serving.store import base",
            ["serving.store", "serving.store.base"],
        ),
        (
            "serving.contract.metrics",
            "from ..store import base",
            ["serving.store", "serving.store.base"],
        ),
        ("serving.model_server.main", "import tensorflow", []),
        (
            "serving.model_server.main",
            "from trainer import towers",
            ["trainer", "trainer.towers"],
        ),
        ("trainer.towers", "from serving.contract import manifest", []),
        (
            "trainer.towers",
            "from serving import store",
            ["serving.store"],
        ),
        (
            "components.rebase.executor",
            "from serving.store import lmdb_store",
            [],
        ),
        (
            "components.rebase.executor",
            "from serving.gateway import Gateway",
            ["serving.gateway", "serving.gateway.Gateway"],
        ),
        (
            "components.rebase.executor",
            "def f():\n    import trainer.towers",
            ["trainer.towers"],
        ),
        ("pipeline.cli", "import trainer, components, serving.gateway", []),
    ],
)
def test_rule_catches_forbidden_import(
    module: str, source: str, expected: list[str]
) -> None:
    assert violations(module, source) == expected


def circle(imported: Mapping[str, Collection[str]]) -> list[str]:
    """Sub-packages that import each other in a circle; the first one twice.

    Args:
        imported: Dotted names that each module imports.
    """

    def part(name: str) -> str:
        return ".".join(name.split(".")[:2])

    graph = collections.defaultdict(set)
    for module, names in imported.items():
        within_serving = {part(n) for n in names if within(n, "serving")}
        graph[part(module)] |= within_serving - {part(module), "serving"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_sub_packages_of_serving_import_each_other() -> None:
    assert not circle(
        {
            module: imports(
                path.read_text(encoding="utf-8"),
                module,
                path.name == "__init__.py",
            )
            for module, path in modules()
            if within(module, "serving")
        }
    )


@pytest.mark.parametrize(
    ("imported", "length"),
    [
        ({"serving.a.x": {"serving.b.y"}, "serving.b.z": {"serving.a.w"}}, 2),
        (
            {
                "serving.a.x": {"serving.b"},
                "serving.b": {"numpy", "serving.c"},
                "serving.c.y": {"serving", "serving.a.z"},
            },
            3,
        ),
        ({"serving.a.x": {"serving.a.y"}, "serving.a.y": {"serving.a.x"}}, 0),
        ({"serving.a.x": {"serving.c"}, "serving.b.y": {"serving.a.x"}}, 0),
    ],
)
def test_circles_of_any_length_are_caught(
    imported: Mapping[str, Collection[str]], length: int
) -> None:
    assert len(set(circle(imported))) == length


@pytest.mark.parametrize("module", ["serving.gateway", "serving.client"])
def test_serving_process_loads_no_tensorflow(module: str) -> None:
    script = (
        f"import sys, {module}\n"
        f"heavy = set({HEAVY}) & {{n.split('.')[0] for n in sys.modules}}\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def third_party(source: str) -> set[str]:
    """Top-level names of foreign packages that a module imports."""
    names = imports(source, "", False)
    return {
        "google.protobuf"
        if within(name, "google.protobuf")
        else name.split(".")[0]
        for name in names
    } - {"google", *OURS, *sys.stdlib_module_names}


def requirements_of_setup_py() -> dict[str, list[str]]:
    """The lists of requirements in setup.py, by the name of the variable."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            lines: list[str] = []
            for element in node.value.elts:
                if isinstance(element, ast.Starred):
                    lines += lists[ast.unparse(element.value)]
                else:
                    lines.append(ast.literal_eval(element))
            lists[ast.unparse(node.targets[0])] = lines
    return lists


@pytest.mark.parametrize("stack", ["TFX_116", "TFX_121"])
def test_every_imported_package_is_declared_in_setup_py(stack: str) -> None:
    lists = requirements_of_setup_py()
    # Traces are an extra: what imports them does without, too.
    lines = [*lists["BOTH"], *lists[stack], *lists["TRACES"]]
    declared = {Requirement(line).name for line in lines}
    undeclared = {
        f"{name} (in {module})"
        for module, path in modules()
        for name in third_party(path.read_text(encoding="utf-8"))
        if DISTRIBUTIONS.get(name, name.replace("_", "-")) not in declared
    }
    assert not undeclared
