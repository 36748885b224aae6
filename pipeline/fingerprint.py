"""A digest of the code that a node runs.

TFX's cache compares a node's inputs and exec properties, and knows code only
by its name: after an edit it would answer with what the old code made. Every
node that runs code of this project therefore carries a digest of it.
"""

import hashlib
import importlib.util
import pathlib


def code_fingerprint(*names: str) -> str:
    """Digests the sources of modules and of packages with all they hold.

    Args:
        *names: Dotted names, such as "serving.contract".

    Returns:
        16 hexadecimal digits; the same for the same sources, wherever the
        project is installed.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        for label, path in _sources(name):
            content = path.read_bytes()
            digest.update(f"{name}/{label} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def _sources(name: str) -> list[tuple[str, pathlib.Path]]:
    """The files of a module or package, by path relative to it.

    The module is looked up and not imported: its imports may be heavy.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"There is no module {name!r} with a source file to digest."
        )
    if not spec.submodule_search_locations:
        return [("", pathlib.Path(spec.origin))]
    folder = pathlib.Path(spec.origin).parent
    return [
        (path.relative_to(folder).as_posix(), path)
        for path in sorted(folder.rglob("*.py"))
    ]
