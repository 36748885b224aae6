"""Bearer tokens, known to the gateway by their hashes only.

    tokens:
      - name: web
        sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
        scopes: [rank, feedback]
      - name: shop-a
        sha256: fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
        scopes: [rank, feedback, "user:delete"]
        users: "shop-a:"           # only users whose id begins so
        expires: 2027-01-31T00:00:00Z

A token is `NAME.SECRET`. The name is no secret and finds the entry; the hash
of the secret is then compared in constant time. `python -m serving.security`
makes tokens: 256 random bits, so a plain SHA-256 can't be searched through,
as that of a password could.
"""

import dataclasses
import datetime
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from serving.errors import LaunchError
from serving.security.caller import Caller
from serving.security.scopes import SCOPES

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {"name", "sha256", "scopes", "users", "expires"}


@dataclasses.dataclass(frozen=True)
class TokenEntry:
    """What the gateway knows of a token.

    Attributes:
        caller: Who shows it, and what they may do.
        sha256: Hash of its secret.
        expires: Seconds since 1970 from which on it is refused.
    """

    caller: Caller
    sha256: bytes
    expires: float = float("inf")


def secret_hash(secret: str) -> bytes:
    """Returns the hash under which a secret is kept."""
    return hashlib.sha256(secret.encode()).digest()


def parse_tokens(text: str, source: str) -> dict[str, TokenEntry]:
    """Reads a tokens file; returns its entries by name.

    Args:
        text: YAML or JSON.
        source: Where it is from, for messages.

    Raises:
        LaunchError: Something is wrong; the message says where.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        # The latter is of a date that there is not, such as February 30th.
        raise LaunchError(f"{source} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(
        content.get("tokens"), list
    ):
        raise LaunchError(
            f"{source}: there must be one key `tokens` with a list of "
            "entries; `python -m serving.security NAME --scope rank` makes one."
        )
    entries: dict[str, TokenEntry] = {}
    for number, item in enumerate(content["tokens"]):
        where = f"{source}: tokens[{number}]"
        if not isinstance(item, dict):
            raise LaunchError(f"{where}: must have the keys {sorted(_KEYS)}")
        entry = _entry(item, where)
        if entry.caller.name in entries:
            raise LaunchError(
                f"{where}.name: {entry.caller.name!r} is there twice"
            )
        entries[entry.caller.name] = entry
    return entries


def _entry(item: Mapping[str, Any], where: str) -> TokenEntry:
    unknown = sorted(map(str, item.keys() - _KEYS))
    if unknown:
        raise LaunchError(
            f"{where}: there is no key {', '.join(unknown)}; there are "
            f"{', '.join(sorted(_KEYS))}"
        )
    name, sha256 = str(item.get("name", "")), str(item.get("sha256", ""))
    if not NAME_PATTERN.fullmatch(name):
        raise LaunchError(
            f"{where}.name: {name!r} is not 1 to 64 letters, digits, - or _"
        )
    if not _SHA256.fullmatch(sha256):
        raise LaunchError(
            f"{where}.sha256: must be the 64 hexadecimal digits that "
            "`python -m serving.security` prints, never the token itself"
        )
    scopes = item.get("scopes")
    if (
        not isinstance(scopes, list)
        or not scopes
        or any(scope not in SCOPES for scope in scopes)
    ):
        raise LaunchError(
            f"{where}.scopes: {scopes!r} is not a list out of "
            f"{', '.join(SCOPES)}"
        )
    caller = Caller(name, frozenset(scopes), str(item.get("users", "")))
    return TokenEntry(
        caller, bytes.fromhex(sha256), _expiry(item.get("expires"), where)
    )


def _expiry(value: object, where: str) -> float:
    if value is None:
        return float("inf")
    if isinstance(value, datetime.date) and not isinstance(
        value, datetime.datetime
    ):
        value = datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        # JSON has no dates of its own.
        try:
            value = datetime.datetime.fromisoformat(
                value.replace("Z", "+00:00")
            )
        except ValueError:
            value = None
    if not isinstance(value, datetime.datetime):
        raise LaunchError(
            f"{where}.expires: must be a time such as 2027-01-31T00:00:00Z"
        )
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return value.timestamp()
