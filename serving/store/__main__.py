"""Looks after a store, also while gateways use it.

python -m serving.store stats --store runs/latest/store
python -m serving.store purge --store runs/latest/store
python -m serving.store retire MODEL FINGERPRINT --store redis://host
"""

import argparse
import sys
from collections.abc import Sequence

from serving.errors import StoreError
from serving.lmdb_file import SAME_MAP_BYTES
from serving.store.adaptive_store import AdaptiveStore
from serving.store.config import (
    add_store_flags,
    open_store,
    take_store_config,
)
from serving.store.record import fingerprint_digest
from serving.store.record_bytes import encode_record


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    config = take_store_config(flags, parser)
    if config.location is None:
        parser.error("--store is needed: which one?")
    command = flags.pop("command")
    try:
        with open_store(config) as store:
            print(command(store, **flags))
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.store",
        description="Looks after a store of users' weights; gateways may use "
        "it meanwhile.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stats = commands.add_parser(
        "stats", help="how many users there are, and what they take"
    )
    stats.set_defaults(command=_stats)
    stats.add_argument("model", metavar="MODEL", help="the model's name")
    purge = commands.add_parser(
        "purge",
        help="free the room of what has expired; for a folder, from time to "
        "time: Redis does it by itself",
    )
    purge.set_defaults(command=_purge)
    retire = commands.add_parser(
        "retire",
        help="drop the weights of a version that nobody goes back to; what "
        "else is kept of its users stays",
    )
    retire.set_defaults(command=_retire)
    retire.add_argument("model", metavar="MODEL", help="the model's name")
    retire.add_argument(
        "fingerprint",
        metavar="FINGERPRINT",
        help="of the version, as its adaptive_manifest.json has it",
    )
    for command in (stats, purge, retire):
        add_store_flags(command)
        command.set_defaults(store_map_bytes=SAME_MAP_BYTES)
    return parser


def _stats(store: AdaptiveStore, model: str) -> str:
    users = versions = num_bytes = 0
    for record in store.iterate(model):
        users += 1
        versions += len(record.versions)
        num_bytes += len(encode_record(record))
    if not users:
        return f"No users of {model!r}."
    return (
        f"{users:,} users of {model!r}, {num_bytes / users:.0f} bytes and "
        f"{versions / users:.2f} versions each at the mean."
    )


def _purge(store: AdaptiveStore) -> str:
    return f"{store.purge():,} expired records and tombstones removed."


def _retire(store: AdaptiveStore, model: str, fingerprint: str) -> str:
    users = store.retire(model, fingerprint_digest(fingerprint))
    return f"Weights of {users:,} users dropped."


if __name__ == "__main__":
    sys.exit(main())
