"""Gets the files of a dataset: from here, from the cache, from elsewhere.

Nothing is vendored, and nothing is used unchecked: every file must have the
sha256 that the spec gives for it.
"""

import os
import pathlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator

from components.dataset_sources import FetchSpec
from components.dataset_spec import DatasetSpec
from pipeline.checksums import accepted_sums, find_problem, sha256_of
from pipeline.downloads import describe, download
from pipeline.errors import FetchError
from pipeline.local_source import gather

DATA_VARIABLE = "ADAPTOWER_DATA"

Say = Callable[[str], None]


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def fetch_dataset(
    spec: DatasetSpec,
    data_path: str | os.PathLike[str] | None = None,
    say: Say = _to_stderr,
) -> pathlib.Path:
    """Returns a folder that holds the dataset's files, ready to read.

    Tries, in this order: `data_path`; the folder of the dataset under
    `$ADAPTOWER_DATA`; the cache; the sources of the spec, of which the first
    is the data's origin. What comes from an archive or from the network goes
    into the cache, whole or not at all.

    Args:
        spec: The dataset.
        data_path: A folder or a zip that must hold the files. If it is given,
            nothing else is tried.
        say: Is told, in a sentence, what happens.

    Raises:
        FetchError: No source has the files; the message says why for each.
    """
    fetch = spec.fetch
    if fetch is None:
        return _own_folder(spec, data_path)
    if data_path is not None:
        folder, problem = _from_local(spec, fetch, pathlib.Path(data_path), say)
        if folder is None:
            raise FetchError(
                f"The files of {spec.name} can't be taken from {data_path}: "
                f"{problem}. Give another path, or none to download them."
            )
        return folder
    problems: list[str] = []
    for place in _environment_places(spec, fetch):
        folder, problem = _from_local(spec, fetch, place, say)
        if folder is not None:
            return folder
        problems.append(f"${DATA_VARIABLE}: {problem}")
    cached = cache_folder(spec)
    if cached.exists():
        problem = find_problem(cached, accepted_sums(fetch, fetch.sources))
        if problem is None:
            return cached
        problems.append(f"the cache: {problem}")
    for source in fetch.sources:
        name = describe(source)
        say(f"Fetching {spec.name} from {name}.")
        try:
            return _fill_cache(
                spec,
                accepted_sums(fetch, [source]),
                lambda output, work: download(source, output, work),  # noqa: B023
            )
        except (FetchError, OSError, zipfile.BadZipFile) as error:
            say(f"That failed: {error}.")
            problems.append(f"{name}: {error}")
    tried = "".join(f"\n  - {problem}" for problem in problems)
    raise FetchError(
        f"The files of {spec.name} can't be had. Tried:{tried}\n"
        "Get them by hand, put them in a folder, and give it as the data "
        f"path; or put them in ${DATA_VARIABLE}/{spec.name}."
    )


def cache_folder(spec: DatasetSpec) -> pathlib.Path:
    """Returns where the files of a dataset are cached."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "adaptower" / "datasets" / spec.name


def is_cached(spec: DatasetSpec) -> bool:
    """Whether the cache holds the dataset's files, unchanged."""
    if spec.fetch is None:
        return False
    accepted = accepted_sums(spec.fetch, spec.fetch.sources)
    return find_problem(cache_folder(spec), accepted) is None


def _own_folder(
    spec: DatasetSpec, data_path: str | os.PathLike[str] | None
) -> pathlib.Path:
    """The files of a spec without `fetch` lie where the user says."""
    folder = pathlib.Path(data_path or spec.folder or ".")
    for table in spec.tables:
        for name in table.files:
            # An absolute name stands for itself, as it does when read.
            root = pathlib.Path(pathlib.Path(name).anchor or folder)
            if not any(root.glob(name.lstrip("/"))):
                raise FetchError(
                    f"There is no file {name} in {folder}, where the spec of "
                    f"{spec.name} looks for it. Mend `files` in the spec, or "
                    "give the folder as the data path."
                )
    return folder.resolve()


def _environment_places(
    spec: DatasetSpec, fetch: FetchSpec
) -> Iterator[pathlib.Path]:
    if root := os.environ.get(DATA_VARIABLE):
        for name in (spec.name, *fetch.aliases):
            place = pathlib.Path(root) / name
            if place.exists():
                yield place


def _from_local(
    spec: DatasetSpec, fetch: FetchSpec, place: pathlib.Path, say: Say
) -> tuple[pathlib.Path | None, str | None]:
    """The folder itself if it is ready to read, else a copy in the cache."""
    accepted = accepted_sums(fetch, fetch.sources)
    if all((place / name).is_file() for name in accepted):
        problem = find_problem(place, accepted)
        return (None, problem) if problem else (place.resolve(), None)

    def unpack(output: pathlib.Path, work: pathlib.Path) -> None:
        del work
        problem = gather(place, list(accepted), output)
        if problem:
            raise FetchError(problem)

    try:
        folder = _fill_cache(spec, accepted, unpack)
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        return None, str(error)
    say(f"Took {spec.name} from {place}.")
    return folder, None


def _fill_cache(
    spec: DatasetSpec,
    accepted: dict[str, set[str]],
    fill: Callable[[pathlib.Path, pathlib.Path], None],
) -> pathlib.Path:
    """Fills a folder beside the cache, checks it, and moves it in place.

    Raises:
        FetchError: A file's checksum is wrong.
    """
    final = cache_folder(spec)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = tempfile.mkdtemp(prefix=f".{spec.name}-", dir=final.parent)
    try:
        output = pathlib.Path(partial) / "files"
        work = pathlib.Path(partial) / "work"
        output.mkdir()
        work.mkdir()
        fill(output, work)
        problem = find_problem(output, accepted)
        if problem:
            raise FetchError(problem.replace(str(output), "what came"))
        sums = {name: {sha256_of(output / name)} for name in accepted}
        if find_problem(final, sums) is None:
            # Files that keep their date keep TFX's cache valid.
            return final
        if final.exists():
            # A damaged copy, or the same files by another process.
            final.rename(pathlib.Path(partial) / "replaced")
        output.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final
