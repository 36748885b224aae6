"""One worker of a distributed search: `python -m trainer.tuning.worker FILE`.

Who the oracle is, Keras Tuner reads from KERASTUNER_ORACLE_IP,
KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID.
"""

import pathlib
import sys

from trainer.tuning.meta_tuner import MetaTuner
from trainer.tuning.request import SearchRequest


def main(request_file: str) -> None:
    """Runs trials until the oracle has no more.

    Args:
        request_file: JSON of a `SearchRequest`.
    """
    text = pathlib.Path(request_file).read_text(encoding="utf-8")
    MetaTuner(SearchRequest.from_json(text)).search()


if __name__ == "__main__":
    main(*sys.argv[1:])
