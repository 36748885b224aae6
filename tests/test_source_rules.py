"""Rules that keep one code base working on TFX 1.16 and on TFX 1.21.

Each rule has an example that breaks it, so that a rule which stops catching
anything is noticed. BUILD_NOTES.md tells what happens without each.
"""

import ast
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_dependency_rule import (
    ROOT,
    imports,
    modules,
    requirements_of_setup_py,
)

# Yields what is wrong, given the syntax tree and the source.
Finder = Callable[[ast.AST, str], Iterator[str]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What must not be in product code, with an example of it.

    Attributes:
        name: What must not be there, and why.
        find: Finds it.
        bad: Sources that break the rule.
        good: Sources near to them that do not.
    """

    name: str
    find: Finder
    bad: tuple[str, ...]
    good: tuple[str, ...] = ()


def no_import(*patterns: str) -> Finder:
    """Finds imports of dotted names that match one of the patterns."""
    compiled = [re.compile(rf"{pattern}(\.|$)") for pattern in patterns]

    def find(tree: ast.AST, source: str) -> Iterator[str]:
        for name in sorted(imports(source, "", False)):
            if any(pattern.match(name) for pattern in compiled):
                yield f"import of {name}"

    return find


def no_attribute(*patterns: str) -> Finder:
    """Finds dotted expressions that match one of the patterns whole."""
    compiled = re.compile("|".join(patterns))

    def find(tree: ast.AST, source: str) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                name = ast.unparse(node)
                if compiled.fullmatch(name):
                    yield f"line {node.lineno}: {name}"

    return find


def no_keyword(*names: str) -> Finder:
    """Finds calls that pass one of these keywords."""

    def find(tree: ast.AST, source: str) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in names:
                yield f"line {node.value.lineno}: {node.arg}="

    return find


def no_text(pattern: str) -> Finder:
    """Finds string constants, docstrings too, that contain the pattern."""
    compiled = re.compile(pattern)

    def find(tree: ast.AST, source: str) -> Iterator[str]:
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and compiled.search(text):
                yield f"line {node.lineno}: {text[:60]!r}"

    return find


def no_comparison(pattern: str) -> Finder:
    """Finds comparisons in which an expression that matches takes part."""
    compiled = re.compile(pattern)

    def find(tree: ast.AST, source: str) -> Iterator[str]:
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Compare) else ""
            if compiled.search(text):
                yield f"line {node.lineno}: {text}"

    return find


def either(*finders: Finder) -> Finder:
    """Finds what any of the finders finds."""

    def find(tree: ast.AST, source: str) -> Iterator[str]:
        for finder in finders:
            yield from finder(tree, source)

    return find


RULES = (
    Rule(
        "no tfx.v1: it loads google.cloud.aiplatform, seconds in each process",
        no_import(r"tfx\.v1"),
        ("from tfx import v1 as tfx", "import tfx.v1.components"),
        ("from tfx.components import Trainer",),
    ),
    Rule(
        "TFMA's config only from config_pb2: 0.52 dropped the short names",
        either(
            no_attribute(
                r"(tfma|tensorflow_model_analysis)\.(\w+Config|\w+Spec"
                r"|\w*Options|\w+Thresholds?|MetricDirection)"
            ),
            no_import(
                r"tensorflow_model_analysis\.(\w+Config|\w+Spec|\w*Options"
                r"|\w+Thresholds?|MetricDirection)"
            ),
        ),
        (
            "import tensorflow_model_analysis as tfma\ntfma.EvalConfig()",
            "tfma.Options(include_default_metrics=False)",
            "from tensorflow_model_analysis import SlicingSpec",
        ),
        (
            "from tensorflow_model_analysis.proto import config_pb2\n"
            "config_pb2.EvalConfig()",
        ),
    ),
    Rule(
        "no pkg_resources, tensorflow_hub, tf.estimator or scann: gone, or "
        "broken with the locked versions",
        either(
            no_import(
                "pkg_resources",
                "tensorflow_hub",
                "scann",
                "tensorflow_estimator",
                r"tensorflow\.estimator",
            ),
            no_attribute(r"(tf|tensorflow|tf\.compat\.v1)\.estimator"),
        ),
        (
            "import pkg_resources",
            "import tensorflow_hub as hub",
            "import tensorflow as tf\ntf.estimator.Estimator()",
            "def f():\n    import scann",
        ),
    ),
    Rule(
        "no prediction_service_pb2, model_service_pb2: they do not load with "
        "protobuf 6",
        no_import(r"tensorflow_serving\.apis\.(prediction|model)_service_pb2"),
        (
            "from tensorflow_serving.apis import prediction_service_pb2",
            "import tensorflow_serving.apis.model_service_pb2",
        ),
        ("from tensorflow_serving.apis import prediction_service_pb2_grpc",),
    ),
    Rule(
        "no filter_query: ML Metadata 1.21 does not have it",
        either(no_keyword("filter_query"), no_text(r"^filter_query$")),
        ("store.get_artifacts(ListOptions(filter_query='id = 1'))",),
    ),
    Rule(
        "Beam's runner by its dotted path: the short names mean different "
        "runners in different versions",
        either(
            no_text(r"--runner=(FnApi|Direct|Prism|SwitchingDirect)"),
            no_text(r"^(FnApiRunner|DirectRunner|PrismRunner)$"),
        ),
        (
            "args = ['--runner=DirectRunner']",
            "beam.Pipeline(runner='FnApiRunner')",
        ),
        (
            "args = ['--runner=apache_beam.runners.portability."
            "fn_api_runner.FnApiRunner']",
        ),
    ),
    Rule(
        "no flags for defaults in MessageToDict, no GetPrototype or "
        "GetMessageClass: none is in both protobuf 3.20 and 6",
        either(
            no_keyword(
                "including_default_value_fields",
                "always_print_fields_with_no_presence",
            ),
            no_attribute(r".*\.(GetPrototype|GetMessageClass)"),
        ),
        (
            "MessageToDict(m, including_default_value_fields=True)",
            "MessageToJson(m, always_print_fields_with_no_presence=True)",
            "factory.MessageFactory().GetPrototype(descriptor)",
        ),
        ("MessageToDict(m, preserving_proto_field_name=True)",),
    ),
    Rule(
        "no aliases that NumPy 2 removed",
        no_attribute(
            r"(np|numpy)\.(float_|complex_|unicode_|string_|bool8|int0|NaN"
            r"|NAN|Inf|Infinity|infty|PINF|NINF|product|cumproduct|sometrue"
            r"|alltrue|in1d|row_stack|trapz|float|int|bool|object|str)"
        ),
        ("x = np.float_(1)", "import numpy\nnumpy.NaN", "np.object"),
        ("np.float64(1)", "np.nan", "np.object_"),
    ),
    Rule(
        "no tf.keras.__version__ and no bare keras: layers come from tf_keras",
        either(
            no_attribute(
                r"(tf|tensorflow)\.keras\.(__version__|version)",
                r"(tf|tensorflow)\.keras",
            ),
            no_import("keras", r"tensorflow\.keras"),
        ),
        (
            "tf.keras.__version__",
            "from tensorflow import keras",
            "import keras",
            "tf.keras.layers.Dense(1)",
        ),
        ("import tf_keras\ntf_keras.layers.Dense(1)", "import keras_tuner"),
    ),
    Rule(
        "no pickle nor what else runs code hidden in data",
        either(
            no_import(
                "pickle",
                "_pickle",
                "cPickle",
                "cloudpickle",
                "dill",
                "joblib",
                "marshal",
                "shelve",
            ),
            no_keyword("allow_pickle"),
            no_attribute(
                r"yaml\.(load|load_all|unsafe_\w+|full_\w+|Loader|FullLoader"
                r"|UnsafeLoader)",
                r"(pd|pandas|np|numpy)\.(read_pickle|fromfile)",
            ),
        ),
        (
            "import pickle",
            "def f():\n    from cloudpickle import loads",
            "np.load(path, allow_pickle=True)",
            "yaml.load(text)",
            "yaml.load(text, Loader=yaml.FullLoader)",
            "pandas.read_pickle(path)",
        ),
        ("np.load(path)", "yaml.safe_load(text)"),
    ),
    Rule(
        "no branches on versions: one code path for both sets",
        either(
            no_comparison(r"\b(__version__|version_info|python_version)\b"),
            no_import("packaging.version"),
        ),
        (
            "if tfx.__version__ < '1.21': pass",
            "import sys\nif sys.version_info >= (3, 11): pass",
        ),
    ),
    Rule(
        "no path of somebody's machine",
        no_text(r"(^|[\s'\"=:])/(home|root|Users|work|mnt|tmp)/"),
        ("path = '/home/me/ml-1m'", "args = ['--data=/tmp/x']"),
        ("path = 'runs/latest'", "url = 'https://example.org/mnt/'"),
    ),
)

# Code whose subject is the versions themselves.
EXEMPT = {
    "no branches on versions": ("pipeline.doctor.packages",),
}


@functools.cache
def parse(path: Path) -> tuple[ast.AST, str]:
    source = path.read_text(encoding="utf-8")
    return ast.parse(source, filename=str(path)), source


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        pytest.param(rule, source, id=f"{rule.name.split(':')[0]}-{number}")
        for rule in RULES
        for number, source in enumerate(rule.bad)
    ],
)
def test_rule_catches_what_breaks_it(rule: Rule, source: str) -> None:
    assert list(rule.find(ast.parse(source), source))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        pytest.param(rule, source, id=f"{rule.name.split(':')[0]}-{number}")
        for rule in RULES
        for number, source in enumerate(rule.good)
    ],
)
def test_rule_lets_pass_what_keeps_it(rule: Rule, source: str) -> None:
    assert not list(rule.find(ast.parse(source), source))


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=rule.name.split(":")[0]) for rule in RULES]
)
def test_product_code_keeps_rule(rule: Rule) -> None:
    exempt = EXEMPT.get(rule.name.split(":")[0], ())
    found = []
    for module, path in modules():
        if module in exempt or module.endswith(("_pb2", "_pb2_grpc")):
            continue
        tree, source = parse(path)
        found += [f"{module} {f}" for f in rule.find(tree, source)]
    assert not found, rule.name


def test_every_module_parses_as_python_3_10() -> None:
    for _, path in modules():
        source = path.read_text(encoding="utf-8")
        ast.parse(source, filename=str(path), feature_version=(3, 10))


def test_lock_files_name_no_host_and_hash_everything() -> None:
    for path in (ROOT / "requirements").glob("*.lock"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index-url" not in text
        assert "--find-links" not in text
        pinned = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2])
        assert pinned
        unhashed = [p[:60] for p in pinned if "--hash=sha256:" not in p]
        assert not unhashed, path.name


@pytest.mark.parametrize("lock", ["py310-tfx116.lock", "py312-tfx121.lock"])
def test_lock_file_pins_every_requirement_of_setup_py(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", text, re.MULTILINE))
    python = "3.10" if lock.startswith("py310") else "3.12"
    lists = requirements_of_setup_py()
    stack = lists["TFX_116" if python == "3.10" else "TFX_121"]
    for line in [*lists["BOTH"], *stack, *lists["DEV"]]:
        requirement = Requirement(line)
        version = pins.get(requirement.name.lower())
        assert version, f"{lock} lacks {line}"
        assert requirement.specifier.contains(version), (line, version)
