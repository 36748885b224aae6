"""Tells by sha256 whether a folder holds a dataset's files, unchanged."""

import hashlib
import pathlib
from collections.abc import Iterable

from components.dataset_sources import DownloadSource, FetchSpec

_CHUNK_BYTES = 1 << 20


def sha256_of(path: pathlib.Path) -> str:
    """Returns the checksum of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def accepted_sums(
    fetch: FetchSpec, sources: Iterable[DownloadSource]
) -> dict[str, set[str]]:
    """Returns, for each file of the dataset, the checksums it may have.

    Args:
        fetch: The spec's section on fetching.
        sources: Sources whose own checksums count too.
    """
    accepted = {name: {digest} for name, digest in fetch.sha256}
    for source in sources:
        for name, digest in source.sha256:
            accepted.setdefault(name, set()).add(digest)
    return accepted


def find_problem(
    folder: pathlib.Path, accepted: dict[str, set[str]]
) -> str | None:
    """Returns what is wrong with the files of a folder, None if nothing."""
    for name, digests in accepted.items():
        path = folder / name
        if not path.is_file():
            return f"there is no file {name} in {folder}"
        found = sha256_of(path)
        if found not in digests:
            return (
                f"{path} is not the file that the spec means: its sha256 is "
                f"{found}, expected {' or '.join(sorted(digests))}"
            )
    return None
