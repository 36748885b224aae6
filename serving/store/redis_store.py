"""The store for several gateways: one Redis or Valkey server.

A record is one string; tombstones and records expire by the server's clock.
Start the server with `--appendonly yes --appendfsync always` and
`--maxmemory-policy noeviction`. It syncs in the thread that answers reads, so
they wait for writes at times; with `--store-not-durable` they do not.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

from serving.errors import DeletedUserError, StoreError, StoreFullError
from serving.redis_config import RedisConfig
from serving.redis_server import Call, RedisServer
from serving.store.adaptive_store import AdaptiveStore
from serving.store.read_batcher import ReadBatcher
from serving.store.record import UserKey, UserRecord
from serving.store.record_bytes import RECORD_FORMAT, encode_record
from serving.store.stored_value import live_or_none, live_record, may_follow
from serving.store.tombstone import (
    TOMBSTONE_FORMAT,
    Retention,
    Tombstone,
    deleted,
)

_SCAN = 512

# KEYS: record. ARGV: its next bytes, their sequence, when they expire (ms
# since 1970, or 0). Returns 1 if they were stored, 0 if they do not follow
# what is there, -1 if the user was deleted.
_COMPARE_AND_PUT = f"""
local function head(record)
  local sequence, scale, place = 0, 1, 2
  repeat
    local byte = string.byte(record, place) or 0
    sequence = sequence + (byte % 128) * scale
    scale, place = scale * 128, place + 1
  until byte < 128
  return sequence, string.sub(record, place + 8, place + 15)
end

local stored = redis.call('GET', KEYS[1])
local sequence, updated = 0, nil
if stored then
  local format = string.byte(stored, 1)
  if format == {TOMBSTONE_FORMAT} then return -1 end
  if format == {RECORD_FORMAT} then sequence, updated = head(stored) end
end
if sequence + 1 ~= tonumber(ARGV[2]) then return 0 end
local _, now_updated = head(ARGV[1])
if ARGV[3] == '0' and updated == now_updated then
  -- The user was not seen since, and expires as if nothing had happened.
  redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
elseif ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[3])
end
return 1
"""

# The same, but compares all the bytes: ARGV[4] are those that must be there.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[4] then return 0 end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[3])
end
return 1
"""

# KEYS: record. ARGV: tombstone, when it expires. Returns what was there.
# A server without memory runs it all the same: it frees more than it takes.
_DELETE = """#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2], 'GET')
"""


class RedisStore(AdaptiveStore):
    """Keeps the records in a Redis or Valkey server."""

    def __init__(
        self, config: RedisConfig, retention: Retention | None = None
    ) -> None:
        """Connects to the server.

        Args:
            config: Where the server is, and how it is used.
            retention: How long records and tombstones are kept.

        Raises:
            StoreError: It can't be reached, or can't do what is needed.
        """
        self._retention = retention or Retention()
        self._server = RedisServer(config, _failed, _full)
        # Beyond its own timeout there is what it takes to connect.
        self._batcher = ReadBatcher(self._read, 4 * config.read_timeout_seconds)

    def get(self, key: UserKey) -> UserRecord | None:  # noqa: D102
        (data,) = self._read([self._key(key)])
        return live_record(data, key, self._retention)

    async def aget(
        self, key: UserKey, seconds: float | None = None
    ) -> UserRecord | None:
        """Like `get`; reads of one event loop share their round trips."""
        data = await self._batcher.get(self._key(key), seconds)
        return live_record(data, key, self._retention)

    def get_many(  # noqa: D102
        self, keys: Sequence[UserKey]
    ) -> list[UserRecord | None]:
        found = self._read(list(map(self._key, keys)))
        return [
            live_or_none(data, key, self._retention)
            for key, data in zip(keys, found, strict=True)
        ]

    def compare_and_put_many(  # noqa: D102
        self, records: Sequence[UserRecord]
    ) -> list[bool | DeletedUserError]:
        calls = [self._call(record) for record in records]
        codes = self._server.run(_COMPARE_AND_PUT, calls, durable=True)
        results: list[bool | DeletedUserError] = []
        for record, call, code in zip(records, calls, codes, strict=True):
            if code == -1:
                results.append(deleted(record.key))
            else:
                results.append(code == 1 or self._replaced(record, call))
        return results

    def _call(self, record: UserRecord) -> Call:
        expires_ms = self._retention.expires_ms(record.updated_ms)
        return Call(
            [self._key(record.key)],
            [encode_record(record), record.sequence, expires_ms or 0],
        )

    def _replaced(self, record: UserRecord, call: Call) -> bool:
        """Replaces a damaged record, which only we can tell from a whole one.

        Returns:
            Whether the record was stored.
        """
        if record.sequence != 1:
            return False
        (data,) = self._read(call.keys)
        if (
            data is None
            or may_follow(record, data, self._retention) is not True
        ):
            return False
        replace = Call(call.keys, [*call.arguments, data])
        return self._server.run(_REPLACE, [replace], durable=True) == [1]

    def delete(self, key: UserKey) -> tuple[bool, Tombstone]:  # noqa: D102
        tombstone = Tombstone.now(self._retention)
        call = Call(
            [self._key(key)], [tombstone.to_bytes(), tombstone.expires_ms]
        )
        (data,) = self._server.run(_DELETE, [call], durable=True)
        return live_or_none(data, key, self._retention) is not None, tombstone

    def tombstone(self, key: UserKey) -> Tombstone | None:  # noqa: D102
        # Whether it has expired is for the server alone to say, which refuses
        # records for as long as the key is there: our clock may be ahead.
        (data,) = self._read([self._key(key)])
        return None if data is None else Tombstone.from_bytes(data)

    def iterate(self, model: str) -> Iterator[UserRecord]:  # noqa: D102
        prefix = self._key(UserKey(model, ""))
        skipped = len(prefix) - len(UserKey(model, "").to_bytes())
        with self._server.writing() as client:
            found = client.scan_iter(_escaped(prefix) + b"*", count=_SCAN)
            while batch := list(itertools.islice(found, _SCAN)):
                keys = [UserKey.from_bytes(name[skipped:]) for name in batch]
                for key, data in zip(keys, client.mget(batch), strict=True):
                    record = live_or_none(data, key, self._retention)
                    if record is not None:
                        yield record

    def purge_steps(self) -> Iterator[int]:
        """Has no steps: the server removes what has expired."""
        return iter(())

    def close(self) -> None:  # noqa: D102
        self._batcher.close()
        self._server.close()

    def _key(self, key: UserKey) -> bytes:
        return self._server.key("weights", key.to_bytes())

    def _read(self, names: Sequence[bytes]) -> list[bytes | None]:
        if not names:
            return []
        with self._server.reading() as client:
            found: list[bytes | None] = client.mget(names)
        return found


def _escaped(text: bytes) -> bytes:
    """Returns a pattern that matches just the text."""
    return re.sub(rb"([\\*?\[\]^])", rb"\\\1", text)


def _failed(what: str) -> StoreError:
    return StoreError(f"The store {what}")


def _full(what: str) -> StoreFullError:
    return StoreFullError(f"The store {what}")
