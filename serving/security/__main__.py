"""Makes a bearer token, and the entry of the tokens file that lets it in.

The token goes to standard output, the entry to standard error or to the end
of the tokens file; the token itself is kept nowhere.
"""

import argparse
import datetime
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from serving.errors import LaunchError
from serving.security.scopes import SCOPES
from serving.security.token_entry import parse_tokens, secret_hash

_SECRET_BYTES = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a new token; returns the exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    entry: dict[str, object] = {
        "name": flags.name,
        "sha256": secret_hash(secret).hex(),
        "scopes": flags.scope,
    }
    if flags.users:
        entry["users"] = flags.users
    if flags.days is not None:
        now = datetime.datetime.now(datetime.timezone.utc)
        entry["expires"] = now + datetime.timedelta(days=flags.days)
    try:
        before = _content(flags.file)
        text = before + yaml.safe_dump([entry], sort_keys=False)
        parse_tokens(text, str(flags.file or "the new entry"))
    except (OSError, LaunchError) as error:
        parser.error(str(error))
    if flags.file is None:
        sys.stderr.write(text)
    else:
        _replace(flags.file, text)
    print(f"{flags.name}.{secret}")
    return 0


def _content(path: Path | None) -> str:
    """What the file holds, ready for one more entry."""
    text = path.read_text(encoding="utf-8") if path and path.exists() else ""
    return f"{text.rstrip() or 'tokens:'}\n"


def _replace(path: Path, text: str) -> None:
    """Replaces a file as a whole: a gateway may read it at any moment."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.security", description=__doc__
    )
    parser.add_argument("name", help="who will show the token")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=SCOPES,
        help="what it may call; repeatable",
    )
    parser.add_argument(
        "--users", metavar="PREFIX", help="only for users whose id begins so"
    )
    parser.add_argument(
        "--days", type=float, help="how long it is valid; for ever by default"
    )
    parser.add_argument(
        "--file",
        type=Path,
        help="tokens file to add the entry to; a running gateway follows",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
