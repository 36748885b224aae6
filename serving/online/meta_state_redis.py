"""Versions of meta states beside the users' weights, in their Redis server.

    adaptower:meta_states                          names of all records, by
                                                   how lately they were saved
    adaptower:meta_states:["MODEL","FINGERPRINT"]  hash: progress, stamp

All gateways and workers of a store share them.
"""

import json
import secrets

from serving.contract.meta_update import MetaProgress
from serving.errors import StoreError, StoreFullError
from serving.online.meta_states import (
    KEPT_RECORDS,
    MetaStates,
    Stamp,
    decode_progress,
    encode_progress,
)
from serving.redis_config import RedisConfig
from serving.redis_server import Call, RedisServer

_KIND = "meta_states"
_STAMP_BYTES = 16

# KEYS: record, names of all. ARGV: its next progress and stamp, the stamp that
# it goes on from (empty: there is no record), its name, what the names of its
# model's records begin with, how many of those are kept. Returns 1 if the
# record holds it now. A save whose answer was lost counts as failed, and the
# next look finds what it did.
_COMPARE_AND_SET = """
local stamp = redis.call('HGET', KEYS[1], 'stamp') or ''
if stamp ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'progress', ARGV[1], 'stamp', ARGV[2])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2] or 0
redis.call('ZADD', KEYS[2], last + 1, ARGV[4])
local of_model = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if string.sub(name, 1, #ARGV[5]) == ARGV[5] then
    of_model[#of_model + 1] = name
  end
end
for place = 1, #of_model - ARGV[6] do
  redis.call('ZREM', KEYS[2], of_model[place])
  redis.call('DEL', KEYS[2] .. ':' .. of_model[place])
end
return 1
"""


class RedisMetaStates(MetaStates):
    """Keeps the records in a Redis or Valkey server."""

    def __init__(self, config: RedisConfig) -> None:
        """Connects to the server.

        Args:
            config: Where the server is, and how it is used.

        Raises:
            StoreError: It can't be reached, or can't do what is needed.
        """
        self._server = RedisServer(config, _failed, _full)

    def known(self) -> list[tuple[str, str]]:  # noqa: D102
        with self._server.reading() as client:
            names = client.zrange(self._server.key(_KIND), 0, -1)
        return sorted(map(_model_and_fingerprint, names))

    def stamp(self, model: str, fingerprint: str) -> Stamp:  # noqa: D102
        with self._server.reading() as client:
            stamp: bytes | None = client.hget(
                self._key(_name(model, fingerprint)), "stamp"
            )
        return stamp

    def load(  # noqa: D102
        self, model: str, fingerprint: str
    ) -> tuple[MetaProgress | None, Stamp]:
        key = self._key(_name(model, fingerprint))
        with self._server.reading() as client:
            data, stamp = client.hmget(key, "progress", "stamp")
        if stamp is None:
            return None, None
        return decode_progress(data or b"", key.decode()), stamp

    def save(  # noqa: D102
        self,
        model: str,
        fingerprint: str,
        progress: MetaProgress,
        expected: Stamp,
    ) -> Stamp:
        name = _name(model, fingerprint)
        # Of this save alone: another's may come to the same progress.
        stamp = secrets.token_bytes(_STAMP_BYTES)
        before = expected if isinstance(expected, bytes) else b""
        call = Call(
            [self._key(name), self._server.key(_KIND)],
            [
                encode_progress(progress),
                stamp,
                before,
                name,
                _beginning(model),
                KEPT_RECORDS,
            ],
        )
        saved = self._server.run(_COMPARE_AND_SET, [call], durable=True)
        return stamp if saved == [1] else None

    def close(self) -> None:  # noqa: D102
        self._server.close()

    def _key(self, name: bytes) -> bytes:
        return self._server.key(_KIND, name)


def _beginning(model: str) -> bytes:
    """Returns what the names of a model's records begin with."""
    return f"[{json.dumps(model)},".encode()


def _name(model: str, fingerprint: str) -> bytes:
    return _beginning(model) + f"{json.dumps(fingerprint)}]".encode()


def _model_and_fingerprint(name: bytes) -> tuple[str, str]:
    model, fingerprint = json.loads(name)
    return model, fingerprint


def _failed(what: str) -> StoreError:
    return StoreError(f"The store of meta states {what}")


def _full(what: str) -> StoreFullError:
    return StoreFullError(f"The store of meta states {what}")
