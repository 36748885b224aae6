"""Learns without a gateway; shows versions of meta states, and rolls back.

python -m serving.online work --backend localhost:8500 \
    --model adaptower=runs/latest/serving/adaptower --store redis://localhost
python -m serving.online meta-states runs/latest/store/meta_states
python -m serving.online meta-states redis://localhost \
    --model adaptower --fingerprint f00d --roll-back 3
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from serving.contract.errors import MetaStateError
from serving.contract.meta_update import MetaProgress
from serving.errors import StoreError
from serving.online import work
from serving.online.meta_stage_config import open_meta_states
from serving.online.meta_state_files import MetaStateFiles
from serving.online.meta_states import MetaStates, roll_back
from serving.store.config import StoreConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    commands = {"work": work.main, "meta-states": _meta_states}
    parser = argparse.ArgumentParser(
        prog="python -m serving.online",
        description="The online stage beside the gateway.",
    )
    parser.add_argument("command", choices=commands)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args(arguments)
    return commands[args.command](args.arguments)


def _meta_states(arguments: Sequence[str]) -> int:
    parser = _meta_states_parser()
    args = parser.parse_args(arguments)
    chosen = (args.model, args.fingerprint, args.roll_back)
    if any(part is not None for part in chosen) and None in chosen:
        parser.error(
            "--roll-back needs --model and --fingerprint, and they need it"
        )
    try:
        with contextlib.closing(
            _open(args.location, durable=not args.store_not_durable)
        ) as states:
            if args.roll_back is not None:
                roll_back(states, *chosen)
            for model, fingerprint in states.known():
                progress, _ = states.load(model, fingerprint)
                if progress is not None:
                    print(f"{model} {fingerprint} {_summary(progress)}")
    except (MetaStateError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _open(location: str, durable: bool) -> MetaStates:
    if "://" in location:
        return open_meta_states(StoreConfig(location, durable=durable))
    return MetaStateFiles(location)


def _summary(progress: MetaProgress) -> str:
    versions = [state.version for state in progress.history]
    return (
        f"serves version {progress.current.version} of "
        f"{[progress.exported.version, *versions]}; {progress.promoted} "
        f"promoted, {progress.refused} refused, farthest value "
        f"{progress.max_shift:.3f} from the export"
    )


def _meta_states_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.online meta-states",
        description=(
            "Shows which versions of the meta-initialization are kept. With "
            "--roll-back an earlier one is served again, by gateways that are "
            "running within their --poll-seconds; 0 is the exported one."
        ),
    )
    parser.add_argument(
        "location",
        metavar="FOLDER|URL",
        help="what the gateways call --meta-states, or their --store if that "
        "is a Redis server",
    )
    parser.add_argument(
        "--store-not-durable",
        action="store_true",
        help="as for the gateways",
    )
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--fingerprint", help="of the fixed part, as listed")
    parser.add_argument("--roll-back", type=int, metavar="VERSION")
    return parser


if __name__ == "__main__":
    sys.exit(main())
