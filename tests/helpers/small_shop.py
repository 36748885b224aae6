"""A small interaction log that has something to learn, as files and a spec."""

import csv
import pathlib

import numpy as np

NUM_USERS = 120
EVENTS_PER_USER = 40
_NUM_ITEMS = 60
_COLOURS = ("red", "green", "blue")

SPEC = """
name: small-shop
interactions:
  files: log.csv
  user: shopper
  item: article
  timestamp: {column: time, format: s}
  label: {column: stars, at_least: 4}
users:
  files: shoppers.csv
  key: shopper
  features:
    age: numeric
    city: categorical
items:
  files: articles.csv
  key: article
  display: name
  features:
    colour: categorical
    tags: {kind: categorical_list, separator: "|"}
"""


def write_small_shop(folder: pathlib.Path) -> pathlib.Path:
    """Writes the files; each shopper likes one colour, whatever its age.

    Nothing in the user table tells the colour: only events do, so that a
    model that adapts has an advantage.

    Args:
        folder: Where to write; made if it isn't there.

    Returns:
        Path of the spec.
    """
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    colours = [_COLOURS[item % len(_COLOURS)] for item in range(_NUM_ITEMS)]
    with (folder / "articles.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["article", "name", "colour", "tags"])
        for item, colour in enumerate(colours):
            tags = "|".join(["new", "sale"][: item % 3])
            rows.writerow([f"{item:03d}", f"Thing, {item}", colour, tags])
    with (folder / "shoppers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["shopper", "age", "city"])
        for user in range(NUM_USERS):
            age = "" if user % 5 == 0 else rng.integers(18, 80)
            rows.writerow([f"s{user}", age, ["Rome", "Oslo", ""][user % 3]])
    with (folder / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["shopper", "article", "stars", "time"])
        for user in range(NUM_USERS):
            liked = _COLOURS[rng.integers(len(_COLOURS))]
            items = rng.permutation(_NUM_ITEMS)[:EVENTS_PER_USER]
            for position, item in enumerate(items):
                is_liked = (colours[item] == liked) ^ (rng.random() < 0.1)
                time = 1_600_000_000 + 1000 * user + 60 * position
                rows.writerow(
                    [f"s{user}", f"{item:03d}", 5 if is_liked else 2, time]
                )
    spec = folder / "small_shop.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    return spec
