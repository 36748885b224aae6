"""Writes output files: whole or not at all, and the same bytes each time."""

import json
import os
import uuid
from collections.abc import Iterable

import tensorflow as tf
from tfx.dsl.io import fileio

# Folder, beside the splits, of files that are not finished: inside a split
# whatever reads the split would take them for its own.
ATTEMPTS = "_attempts"

# Level 1 writes three times as fast as the default and a sixth more.
_OPTIONS = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)


def shard_path(folder: str, stem: str, index: int, count: int) -> str:
    """Returns the name of one of the files that make up a data set."""
    return f"{folder}/{stem}-{index:05d}-of-{count:05d}"


def split_path(uri: str, split: str, index: int, count: int) -> str:
    """Returns the name of a file of a split of an Examples artifact."""
    folder = f"{uri}/Split-{split}"
    return shard_path(folder, "interactions", index, count)


def write_examples(path: str, examples: Iterable[bytes]) -> int:
    """Writes serialized tf.Examples to `path`.gz; returns how many.

    Beam may run a bundle twice, even at the same time: each attempt writes a
    file of its own, and the rename that ends it is atomic.
    """
    final = f"{path}.gz"
    folder = os.path.dirname(path)
    attempts = f"{os.path.dirname(folder)}/{ATTEMPTS}"
    attempt = f"{attempts}/{uuid.uuid4().hex}"
    for needed in (folder, attempts):
        fileio.makedirs(needed)
    written = 0
    with tf.io.TFRecordWriter(attempt, _OPTIONS) as writer:
        for example in examples:
            writer.write(example)
            written += 1
    fileio.rename(attempt, final, overwrite=True)
    return written


def write_text(path: str, text: str) -> None:
    """Writes a small text file, atomically."""
    attempt = f"{path}.{uuid.uuid4().hex}.tmp"
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(attempt, "w") as file:
        file.write(text)
    fileio.rename(attempt, path, overwrite=True)


def write_json(path: str, values: object) -> None:
    """Writes values as JSON with sorted keys."""
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")
