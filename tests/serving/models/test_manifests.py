import asyncio

import pytest

from serving.contract.errors import ManifestError
from serving.models import manifests
from serving.models.manifests import Manifests
from serving.shared_reads import SharedReads
from tests.helpers.hanging_file import hanging
from tests.helpers.toy_model import ToyParameters

FILE = "assets.extra/adaptive_manifest.json"


@pytest.fixture
def saved():
    return ToyParameters.from_seed(1).manifest()


def read(how, path):
    return asyncio.run(how(path))


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_failure_is_repeated_without_the_disk_for_a_while(
    tmp_path, saved, monkeypatch, seconds
):
    monkeypatch.setattr(manifests, "_RETRY_SECONDS", seconds)
    known = Manifests()
    with pytest.raises(ManifestError, match="can't be read"):
        read(known.read_or_remember, tmp_path)
    saved.save(tmp_path)
    if seconds:
        with pytest.raises(ManifestError, match="can't be read"):
            read(known.read_or_remember, tmp_path)
        # Whoever wants to know it anew has it forgotten.
        assert read(known.read, tmp_path) == saved
    assert read(known.read_or_remember, tmp_path) == saved


def test_volume_that_hangs_is_a_manifest_that_can_not_be_read(tmp_path, saved):
    saved.save(tmp_path)
    known = Manifests(SharedReads(0.01))

    async def run():
        with pytest.raises(ManifestError, match=f"{tmp_path}: reading takes"):
            await known.read(tmp_path)

    with hanging(tmp_path / FILE):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(run())
    loop.close()
