"""MovieLens-1M cut as RecBole-MetaRec and MELU_pytorch cut it.

Users with 13 to 100 ratings, divided at random; of each user ten ratings drawn
at random are the query set and all others the support set. So what a user
rated later is learned from to tell what it rated earlier, and "cold" users
have up to ninety ratings: both are faults of these protocols, kept here because
the published figures have them.

Labels are ratings on a scale from 0 to 1; the logistic loss takes them as they
are, and sigmoid(score) is the expected rating.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.quality.artifacts import Artifacts
from benchmarks.quality.inputs import Arrivals
from serving.contract.features import USER_ROW
from serving.contract.protocol import SPLITS
from trainer.episodes import (
    DRAW_WEIGHT,
    ITEM_ROW,
    LABEL,
    POSITION,
    expand,
    read_episodes,
)
from trainer.stages import StageData
from trainer.stream import StreamUsers

QUERY_RATINGS = 10
MIN_RATINGS, MAX_RATINGS = 13, 100
LOWEST, HIGHEST = 1, 5

_MAX_USERS = 1_000_000


@dataclasses.dataclass(frozen=True)
class PublishedProtocol:
    """What differs between the two.

    Attributes:
        name: Of the protocol.
        shares: Of users trained on, stopped by and judged.
        last_year: Newest release year of films that count; 0 is any.
    """

    name: str
    shares: tuple[float, float, float]
    last_year: int = 0


METAREC = PublishedProtocol("metarec", (0.8, 0.1, 0.1))
# Existing users and new ones, 8 : 2, and the films released up to 1997. It
# stops by nothing; here a tenth of the existing users is taken for that.
MELU = PublishedProtocol("melu", (0.72, 0.08, 0.2), last_year=1997)
PROTOCOLS = {protocol.name: protocol for protocol in (METAREC, MELU)}


@dataclasses.dataclass(frozen=True)
class RatedUsers:
    """Users with their ratings in some order.

    Attributes:
        ids: What the user tower takes, int64 [users, L] by name.
        item_row: Catalog rows of each user's ratings.
        rating: 1 to 5.
    """

    ids: Mapping[str, NDArray[np.int64]]
    item_row: Sequence[NDArray[np.int32]]
    rating: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.item_row)

    def take(self, users: NDArray[np.int64]) -> "RatedUsers":
        """The users with these indices."""
        return RatedUsers(
            {name: ids[users] for name, ids in self.ids.items()},
            [self.item_row[user] for user in users],
            [self.rating[user] for user in users],
        )

    def shuffled(self, seed: int) -> "RatedUsers":
        """The same users, each one's ratings in random order."""
        random = np.random.default_rng(seed)
        orders = [random.permutation(len(rows)) for rows in self.item_row]
        return RatedUsers(
            self.ids,
            [r[o] for r, o in zip(self.item_row, orders, strict=True)],
            [r[o] for r, o in zip(self.rating, orders, strict=True)],
        )

    def episodes(self) -> tf.data.Dataset:
        """As `read_episodes` gives them, a rating's place its position."""

        def each() -> Iterator[dict[str, Any]]:
            for user in range(len(self)):
                rating = self.rating[user]
                yield {
                    ITEM_ROW: self.item_row[user],
                    LABEL: scaled(rating),
                    POSITION: np.arange(len(rating)),
                    DRAW_WEIGHT: np.float32(1.0),
                } | {name: ids[user] for name, ids in self.ids.items()}

        vector = {ITEM_ROW: tf.int32, LABEL: tf.float32, POSITION: tf.int64}
        vector |= dict.fromkeys(self.ids, tf.int64)
        signature = {
            name: tf.TensorSpec([None], dtype) for name, dtype in vector.items()
        }
        signature[DRAW_WEIGHT] = tf.TensorSpec([], tf.float32)
        return tf.data.Dataset.from_generator(
            each, output_signature=signature
        ).cache()


def scaled(rating: NDArray[np.int64]) -> NDArray[np.float32]:
    """Ratings as labels, 0 to 1; 4 and 5 are above a half."""
    return ((rating - LOWEST) / (HIGHEST - LOWEST)).astype(np.float32)


def read_rated_users(
    data: StageData,
    artifacts: Artifacts,
    folder: pathlib.Path,
    protocol: PublishedProtocol,
) -> RatedUsers:
    """All users that the protocol knows, ratings in order of time.

    Args:
        data: Features and items.
        artifacts: Episodes, for the users' transformed features.
        folder: `ratings.dat` and `movies.dat`.
        protocol: Which films and users count.
    """
    row_of = {i.decode(): row for row, i in enumerate(data.catalog.item_ids)}
    years = _years(folder / "movies.dat")
    text = (folder / "ratings.dat").read_text("ascii")
    table = np.array(text.replace("::", " ").split(), np.int64).reshape(-1, 4)
    # By user, then time, ties by film.
    table = table[np.lexsort((table[:, 1], table[:, 3], table[:, 0]))]
    newest = protocol.last_year or max(years.values())
    kept = np.array([years[film] <= newest for film in table[:, 1]])
    table = table[kept]
    users, starts = np.unique(table[:, 0], return_index=True)
    ids, place = _features(data, artifacts)
    chosen, item_row, rating = [], [], []
    for user, rows in zip(users, np.split(table, starts[1:]), strict=True):
        if MIN_RATINGS <= len(rows) <= MAX_RATINGS:
            chosen.append(place[str(user)])
            films = [row_of[str(film)] for film in rows[:, 1]]
            item_row.append(np.array(films, np.int32))
            rating.append(rows[:, 2])
    by_user = {name: values[chosen] for name, values in ids.items()}
    return RatedUsers(by_user, item_row, rating)


def _years(path: pathlib.Path) -> dict[int, int]:
    """Release year of each film, from its title."""
    years = {}
    for line in path.read_text("latin-1").splitlines():
        film, title, _ = line.split("::")
        found = re.search(r"\((\d{4})\)\s*$", title)
        years[int(film)] = int(found[1]) if found else 0
    return years


def _features(
    data: StageData, artifacts: Artifacts
) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
    """Feature ids of all users, and each user's place among them."""
    ids: dict[str, list[NDArray[np.int64]]] = {}
    names: list[str] = []
    for split in SPLITS:
        files = expand([artifacts.pattern(split)])
        episodes = read_episodes(files, data.space, data.catalog)
        users = StreamUsers.read(episodes, data.space, _MAX_USERS)
        for name, values in users.ids.items():
            if name != USER_ROW:
                ids.setdefault(name, []).append(values.numpy())
        names += Arrivals.read(files).user_ids
    whole = {name: np.concatenate(parts) for name, parts in ids.items()}
    return whole, {name: index for index, name in enumerate(names)}
