"""Beam: from a store to the same store, with everybody known to a version.

One step looks through the store and passes on the ids of who is behind; batch
by batch they are learned wherever there is a worker. Records are read again
there: what is passed on stays small, and what was written meanwhile counts.
"""

import json
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from components.rebase.rebaser import Counts, RebaseConfig, Rebaser

COUNTS_FILE = "counts.json"
_COUNTS = "counts"


class RebaseUsers(beam.PTransform):
    """From the beginning of a pipeline to a file of counts."""

    def __init__(self, config: RebaseConfig, output_dir: str) -> None:
        """Sets the steps up.

        Args:
            config: What is learned for, and where the users are.
            output_dir: Where `counts.json` goes.
        """
        super().__init__()
        self._config = config
        self._output = Path(output_dir) / COUNTS_FILE

    def expand(self, begin: beam.pvalue.PBegin) -> None:
        """Adds the steps to the pipeline."""
        found = (
            begin
            | "Begin" >> beam.Create([None])
            | "FindUsers"
            >> beam.ParDo(_FindUsersFn(self._config)).with_outputs(
                _COUNTS, main="batches"
            )
        )
        learned = (
            found["batches"]
            # Batches are spread over the workers, and no user is written
            # while the store is still looked through.
            | "Spread" >> beam.Reshuffle()
            | "LearnUsers" >> beam.ParDo(_LearnUsersFn(self._config))
        )
        _ = (
            (found[_COUNTS], learned)
            | "Flatten" >> beam.Flatten()
            | "Sum" >> beam.CombineGlobally(_total)
            | "ToJson" >> beam.Map(lambda counts: json.dumps(counts, indent=2))
            | "Write"
            >> beam.io.WriteToText(
                str(self._output), num_shards=1, shard_name_template=""
            )
        )


def _total(many: Iterable[Counts]) -> Counts:
    total = Counts()
    for counts in many:
        total.update(counts)
    return total


# A process opens a folder of LMDB once, however many threads and steps use
# it; beam's `shared` would keep it open when the pipeline has ended.
_opened: weakref.WeakValueDictionary[RebaseConfig, Rebaser] = (
    weakref.WeakValueDictionary()
)
_opening = threading.Lock()


class _RebaserFn(beam.DoFn):
    """Has a rebaser at hand."""

    _rebaser: Rebaser

    def __init__(self, config: RebaseConfig) -> None:
        self._config = config

    def setup(self) -> None:
        with _opening:
            found = _opened.get(self._config) or Rebaser(self._config)
            self._rebaser = _opened[self._config] = found

    def teardown(self) -> None:
        # The last one to let go closes the store.
        del self._rebaser


class _FindUsersFn(_RebaserFn):
    """Yields batches of ids of who is behind, then how many were seen."""

    def process(self, _: None) -> Iterator[Any]:
        counts = Counts()
        yield from self._rebaser.batches(counts)
        yield beam.pvalue.TaggedOutput(_COUNTS, counts)


class _LearnUsersFn(_RebaserFn):
    """Learns a batch of users and yields what they came to."""

    def process(self, user_ids: Sequence[str]) -> Iterator[Counts]:
        yield self._rebaser.rebase(user_ids)
