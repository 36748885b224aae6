import os

import pytest

from serving.errors import StoreError, StoreFullError
from serving.online.meta_state_files import MetaStateFiles
from serving.online.meta_state_memory import MemoryMetaStates
from serving.online.meta_state_redis import RedisMetaStates
from serving.online.meta_states import KEPT_RECORDS
from serving.redis_config import RedisConfig
from tests.contract.meta_states_suite import (
    FINGERPRINT,
    MetaStatesSuite,
    progressed,
)


class TestMemoryMetaStates(MetaStatesSuite):
    @pytest.fixture(autouse=True)
    def _shared(self):
        self.states = MemoryMetaStates()

    def make_states(self, tmp_path):
        return self.states


class TestMetaStateFiles(MetaStatesSuite):
    def make_states(self, tmp_path):
        return MetaStateFiles(tmp_path / "meta_states")

    @pytest.mark.parametrize("model", ["a/b", "..", "ü m", ".lock"])
    def test_any_model_name_has_a_folder_of_its_own(
        self, states, model, tmp_path
    ):
        states.save(model, FINGERPRINT, progressed(1), None)
        (folder,) = (tmp_path / "meta_states").iterdir()
        assert folder.parent == tmp_path / "meta_states"

    def test_a_crash_while_writing_leaves_the_old_content(
        self, states, monkeypatch
    ):
        stamp = states.save("m", FINGERPRINT, progressed(1), None)

        def crash(*_):
            raise OSError("no power")

        monkeypatch.setattr(os, "fsync", crash)
        with pytest.raises(StoreError, match="no power"):
            states.save("m", FINGERPRINT, progressed(2), stamp)
        monkeypatch.undo()
        assert states.load("m", FINGERPRINT)[0].current.version == 1
        assert states.save("m", FINGERPRINT, progressed(2), stamp) is not None

    @pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"format": 9}'])
    def test_a_damaged_file_is_named_and_replaced(
        self, states, content, tmp_path, caplog
    ):
        states.save("m", FINGERPRINT, progressed(1), None)
        (path,) = tmp_path.glob("**/*.json")
        path.write_bytes(content)
        progress, stamp = states.load("m", FINGERPRINT)
        assert progress is None
        assert str(path) in caplog.text
        assert states.save("m", FINGERPRINT, progressed(2), stamp) is not None
        assert states.load("m", FINGERPRINT)[0].current.version == 2

    def test_a_folder_does_not_grow_for_ever(self, states, tmp_path):
        for number in range(3 * KEPT_RECORDS):
            states.save("m", f"{number:04x}", progressed(1), None)
        (folder,) = (tmp_path / "meta_states").iterdir()
        assert len([*folder.iterdir()]) == KEPT_RECORDS + 1

    def test_a_folder_that_can_not_be_written_to_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        states = MetaStateFiles(tmp_path / "file")
        with pytest.raises(StoreError, match="--meta-states"):
            states.save("m", FINGERPRINT, progressed(1), None)
        with pytest.raises(StoreError, match="--meta-states"):
            states.load("m", FINGERPRINT)


class TestRedisMetaStates(MetaStatesSuite):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server
        redis_server.clear()

    def make_states(self, tmp_path):
        return RedisMetaStates(self.server.config())

    def test_a_killed_server_has_what_was_saved(self, states):
        stamp = states.save("m", FINGERPRINT, progressed(2), None)
        self.server.kill()
        with pytest.raises(StoreError, match="store of meta states"):
            states.stamp("m", FINGERPRINT)
        self.server.start()
        again = RedisMetaStates(self.server.config())
        progress, loaded_stamp = again.load("m", FINGERPRINT)
        assert loaded_stamp == stamp
        assert progress.to_dict() == progressed(2).to_dict()
        again.close()

    @pytest.mark.parametrize("content", [b"", b"{", b'{"format": 9}'])
    def test_a_damaged_record_is_named_and_replaced(
        self, states, content, caplog
    ):
        states.save("m", FINGERPRINT, progressed(1), None)
        key = b'adaptower:meta_states:["m","f00d"]'
        self.server.client.hset(key, "progress", content)
        progress, stamp = states.load("m", FINGERPRINT)
        assert progress is None
        assert key.decode() in caplog.text
        assert states.save("m", FINGERPRINT, progressed(2), stamp) is not None
        assert states.load("m", FINGERPRINT)[0].current.version == 2

    def test_a_full_server_refuses_and_keeps_what_it_has(self, states):
        stamp = states.save("m", FINGERPRINT, progressed(1), None)
        self.server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreFullError, match="maxmemory"):
            states.save("m", FINGERPRINT, progressed(2), stamp)
        self.server.client.config_set("maxmemory", 0)
        assert states.load("m", FINGERPRINT)[0].current.version == 1

    def test_a_server_that_is_not_there_is_named(self):
        with pytest.raises(StoreError, match="localhost:1"):
            RedisMetaStates(RedisConfig("redis://localhost:1"))
