"""Tells who shows a bearer token, from a file that is followed.

See `token_entry` for what is in the file. The name in a token is no secret
and finds the entry; the hash of its secret is compared in constant time.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from serving.errors import LaunchError, UnauthenticatedError
from serving.security.caller import Caller
from serving.security.token_entry import (
    NAME_PATTERN,
    TokenEntry,
    parse_tokens,
    secret_hash,
)

RELOAD_SECONDS = 1.0

# Compared with where a name is not known, so that it takes as long.
_NOBODYS_HASH = hashlib.sha256(secrets.token_bytes(32)).digest()

_log = logging.getLogger(__name__)


class TokenFile:
    """The tokens of a file, read again when it changes.

    A changed file that can't be used is logged and the tokens stay as they
    were: a slip of the pen must not lock everybody out.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time
    ) -> None:
        """Reads the file.

        Args:
            path: The tokens file.
            clock: Seconds since 1970.

        Raises:
            LaunchError: It can't be read, or something in it is wrong.
        """
        self._path = path
        self._clock = clock
        self._state = self._stat()
        self._entries = self._read()
        self._looked = clock()

    def caller_of(self, authorization: str) -> Caller:
        """Returns who shows an `authorization` header.

        Raises:
            UnauthenticatedError: It is no valid token. Whether the name or
                the secret is wrong, the message does not tell.
        """
        self._follow()
        scheme, _, token = authorization.partition(" ")
        name, dot, secret = token.strip().partition(".")
        if (
            scheme.lower() != "bearer"
            or not dot
            or not NAME_PATTERN.fullmatch(name)
        ):
            raise UnauthenticatedError(
                "The authorization header is not of the form "
                "'Bearer NAME.SECRET'."
            )
        entry = self._entries.get(name)
        expected = entry.sha256 if entry else _NOBODYS_HASH
        matches = hmac.compare_digest(secret_hash(secret), expected)
        if entry is None or not matches:
            raise UnauthenticatedError(
                "The token is not known to this gateway."
            )
        if self._clock() >= entry.expires:
            raise UnauthenticatedError(
                f"The token {name!r} has expired; ask for a new one."
            )
        return entry.caller

    def _follow(self) -> None:
        now = self._clock()
        if 0 <= now - self._looked < RELOAD_SECONDS:
            return
        self._looked = now
        try:
            state = self._stat()
            if state == self._state:
                return
            # First of all, so that a bad file is reported once.
            self._state = state
            self._entries = self._read()
        except LaunchError as error:
            _log.error("The tokens stay as they were: %s", error)
        else:
            _log.info("Read %d tokens from %s", len(self._entries), self._path)

    def _stat(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise LaunchError(f"Can't read the tokens file: {error}") from error
        # What was unreadable and is not any more has the same content.
        changed = status.st_mtime_ns, status.st_ctime_ns
        return *changed, status.st_size, status.st_ino

    def _read(self) -> dict[str, TokenEntry]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LaunchError(f"Can't read the tokens file: {error}") from error
        return parse_tokens(text, str(self._path))
