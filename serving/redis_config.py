"""Where a Redis or Valkey server is, and how it is used."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RedisConfig:
    """Where the server is, and how it is used.

    Attributes:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with user name,
            password and number of the database as redis-py reads them.
        prefix: What all keys begin with.
        durable: Whether a write waits until the server's disk has it; needs
            Redis 7.2 or Valkey with `appendonly yes` and `appendfsync
            always`. Without, a crash of the server loses about the last
            second.
        read_timeout_seconds: How long a read may take.
        write_timeout_seconds: How long a write may take, its sync included.
        pause_seconds: How long a server that failed is left alone.
    """

    url: str
    prefix: str = "adaptower"
    durable: bool = True
    read_timeout_seconds: float = 0.25
    write_timeout_seconds: float = 5.0
    pause_seconds: float = 1.0

    @property
    def address(self) -> str:
        """The server's address without the password."""
        scheme, _, rest = self.url.partition("://")
        # Sockets have it among the options.
        where = rest.partition("?")[0].rpartition("@")[2]
        return f"{scheme}://{where}"
