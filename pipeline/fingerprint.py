"""A digest of the code that a node runs.

TFX's cache compares a node's inputs and exec properties, and knows code only
by its name: after an edit it would answer with what the old code made. Every
node that runs code of this project therefore carries a digest of it.
"""

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import pathlib
import pkgutil
from collections.abc import Iterator

OUR_PACKAGES = ("components", "pipeline", "serving", "trainer")


@functools.lru_cache
def code_fingerprint(
    *roots: str, packages: tuple[str, ...] = OUR_PACKAGES
) -> str:
    """Digests modules and all that they import of this project.

    Args:
        *roots: Dotted names of modules, or of packages with all they hold.
        packages: Names of the packages that imports are followed into.

    Returns:
        16 hexadecimal digits; the same for the same sources, wherever the
        project is installed.

    Raises:
        ModuleNotFoundError: A root doesn't exist.
    """
    pending = [module for root in roots for module in _members(root)]
    sources: dict[str, bytes] = {}
    while pending:
        module = pending.pop()
        path = _source_path(module)
        if module in sources or path is None:
            continue
        sources[module] = path.read_bytes()
        pending.extend(
            name
            for name in _imported(sources[module])
            if name.split(".")[0] in packages
        )
    digest = hashlib.sha256()
    for module, source in sorted(sources.items()):
        digest.update(f"{module} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()[:16]


def component_fingerprint(name: str, *programs: str) -> str:
    """Digests a component, all it imports, and programs that it starts.

    Args:
        name: Of the component's package.
        *programs: Dotted names of modules or packages.

    Returns:
        As `code_fingerprint`.

    Raises:
        ModuleNotFoundError: There is no such component or program.
    """
    return code_fingerprint(f"components.{name}.component", *programs)


def _members(root: str) -> Iterator[str]:
    """A module, and if it is a package every module in it."""
    spec = _find(root)
    if spec is None:
        raise ModuleNotFoundError(f"There is no module {root!r} to digest.")
    yield root
    for info in pkgutil.iter_modules(spec.submodule_search_locations or []):
        yield from _members(f"{root}.{info.name}")


def _imported(source: bytes) -> Iterator[str]:
    """Every name that an import statement might mean as a module.

    Sources are read and not run: what they import may be heavy.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source_path(module: str) -> pathlib.Path | None:
    """The file of a module; None if it is a name inside a module."""
    spec = _find(module)
    return pathlib.Path(spec.origin) if spec and spec.origin else None


def _find(module: str) -> importlib.machinery.ModuleSpec | None:
    """Finds a module, and runs nothing but the packages it is in.

    `find_spec("a.b.c")` would import `a.b` even if it is no package.
    """
    parent = module.rpartition(".")[0]
    if parent:
        found = _find(parent)
        if found is None or found.submodule_search_locations is None:
            return None
    return importlib.util.find_spec(module)
