"""InteractionExampleGen against a plain pandas implementation."""

import hashlib
import json
import random

import farmhash
import numpy as np
import pandas as pd
import pytest

from components.errors import DeadLetterShareError, InputDataError
from tests.components.interaction_example_gen import runs

SPLITS = ("meta_train", "meta_valid", "meta_test")


def make_world(folder, seed=0):
    """Writes a log with ties, duplicates and unknown users and items."""
    generator = random.Random(seed)
    rows = []
    for user in range(60):
        for _ in range(generator.choice([1, 5, 29, 30, 31, 45])):
            time = 1_000_000 + generator.randrange(400)
            item = int(40 * generator.random() ** 2)
            rows.append(
                (f"{user:03d}", f"i{item:02d}", generator.randint(1, 5), time)
            )
    rows += rows[::50]
    generator.shuffle(rows)
    log = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    log.to_csv(folder / "log.csv", index=False)
    users = pd.DataFrame(
        {
            "id": [f"{user:03d}" for user in range(5, 70)],
            "age": [None if u % 7 == 0 else u / 2 for u in range(5, 70)],
            "city": ["" if u % 5 == 0 else f"c{u % 3}" for u in range(5, 70)],
        }
    )
    users.to_csv(folder / "users.csv", index=False)
    items = pd.DataFrame(
        {
            "id": [f"i{item:02d}" for item in range(3, 50)],
            "tags": ["|".join(["a", "b", "c"][: i % 4]) for i in range(3, 50)],
            "title": [f"Item {i} ({1950 + i})" for i in range(3, 50)],
        }
    )
    items.to_csv(folder / "items.csv", index=False)
    return log, users, items


def world_spec(**changes):
    entities = {
        "users": {
            "files": "users.csv",
            "key": "id",
            "features": {"age": "numeric", "city": "categorical"},
        },
        "items": {
            "files": "items.csv",
            "key": "id",
            "display": "title",
            "features": {
                "tags": {"kind": "categorical_list", "separator": "|"},
                "year": {
                    "kind": "numeric",
                    "column": "title",
                    "pattern": r"\((\d{4})\)",
                },
            },
        },
        "max_dead_letter_share": 0.2,
    }
    return runs.make_spec(**(entities | changes))


def implicit_spec():
    interactions = {
        "files": "log.csv",
        "user": "user",
        "item": "item",
        "timestamp": {"column": "time"},
        "label": {"implicit": {"negatives": 3}},
    }
    return world_spec(interactions=interactions)


def arrange_with_pandas(log):
    """Events in order with position and split, by other means than ours."""
    log = log.drop_duplicates(["user", "item", "time"])
    log = log.sort_values(["user", "time", "item"]).reset_index(drop=True)
    log["position"] = log.groupby("user").cumcount()
    size = log.groupby("user")["item"].transform("size")
    bucket = log["user"].map(farmhash.fingerprint64).astype(object) % 100
    log["split"] = np.select(
        [(bucket < 70) | (size < 30), bucket < 80], SPLITS[:2], SPLITS[2]
    )
    return log


def expected_rows(log, users, items):
    users = users.set_index("id").to_dict("index")
    items = items.set_index("id").to_dict("index")
    rows = {split: {} for split in SPLITS}
    for event in arrange_with_pandas(log).itertuples():
        row = {
            "user_id": [event.user],
            "item_id": [event.item],
            "label": [float(event.rating >= 4)],
            "timestamp": [event.time],
            "position": [event.position],
        }
        user = users.get(event.user, {"age": None, "city": ""})
        if not pd.isna(user["age"] or float("nan")):
            row["age"] = [user["age"]]
        if user["city"]:
            row["city"] = [user["city"]]
        row |= expected_item(items.get(event.item))
        rows[event.split].setdefault(event.user, []).append(row)
    return rows


def expected_item(item):
    if item is None:
        return {}
    features = {"year": [float(item["title"][-5:-1])]}
    if item["tags"]:
        features["tags"] = item["tags"].split("|")
    return features


def by_user(rows):
    """Rows by user; fails unless the rows of each user are together."""
    users = {}
    last = None
    for row in rows:
        user = row["user_id"][0]
        assert user == last or user not in users
        users.setdefault(user, []).append(row)
        last = user
    return users


def hash_files(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder, *make_world(folder)


@pytest.fixture(scope="module")
def explicit(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("explicit")
    runs.run(world_spec(), world[0], output, num_shards=3)
    return output


@pytest.fixture(scope="module")
def implicit(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("implicit")
    runs.run(implicit_spec(), world[0], output, num_shards=3)
    return output


def test_rows_equal_those_of_pandas(world, explicit):
    expected = expected_rows(*world[1:])
    for split in SPLITS:
        rows = runs.read_examples(explicit / "examples" / f"Split-{split}")
        assert by_user(rows) == expected[split]
        assert rows, split


def test_catalog_holds_listed_and_bought_items_sorted(world, explicit):
    _, log, _, items = world
    catalog = runs.read_examples(explicit / "catalog")
    ids = [row["item_id"][0] for row in catalog]
    assert ids == sorted(set(log["item"]) | set(items["id"]))
    listed = items.set_index("id").to_dict("index")
    for row in catalog:
        item = listed.get(row["item_id"][0])
        expected = {"item_id": row["item_id"]} | expected_item(item)
        if item:
            expected["display_title"] = [item["title"]]
        assert row == expected


def test_summary_counts_what_happened(world, explicit):
    _, log, users, items = world
    path = explicit / "dead_letters" / "summary.json"
    summary = json.loads(path.read_text())
    arranged = arrange_with_pandas(log)
    assert summary["rows"] == {
        "interactions": len(log),
        "users": len(users),
        "items": len(items),
    }
    assert summary["dead_letters"]["interactions"] == {
        "duplicate_event": len(log) - len(arranged)
    }
    counts = arranged.groupby("user").agg(
        split=("split", "first"), size=("item", "size")
    )
    for split in SPLITS:
        assert summary["users"][split] == (counts["split"] == split).sum()
        number = (arranged["split"] == split).sum()
        assert summary["examples"][split] == number
    buckets = counts.index.map(farmhash.fingerprint64).astype(object) % 100
    few = (buckets >= 70) & (counts["size"] < 30)
    assert summary["users"]["with_few_events_kept_in_meta_train"] == few.sum()
    assert summary["users"]["not_in_their_table"] == len(
        set(log["user"]) - set(users["id"])
    )
    assert summary["items"]["not_in_their_table"] == len(
        set(log["item"]) - set(items["id"])
    )


def test_second_run_writes_the_same_bytes(world, implicit, tmp_path):
    runs.run(implicit_spec(), world[0], tmp_path, num_shards=3)
    assert hash_files(tmp_path) == hash_files(implicit)


def test_negatives_keep_the_protocol(world, implicit):
    log = arrange_with_pandas(world[1])
    taken = log.groupby("user")["item"].agg(set)
    trained = log[log["split"] == "meta_train"]
    first_seen = trained.groupby("item")["time"].min()
    num_negatives = 0
    for split in SPLITS:
        folder = implicit / "examples" / f"Split-{split}"
        for user, rows in by_user(runs.read_examples(folder)).items():
            expected = log[log["user"] == user]
            positives = [row for row in rows if row["label"] == [1.0]]
            assert [r["item_id"][0] for r in positives] == list(
                expected["item"]
            )
            for event in expected.itertuples():
                drawn = [
                    row["item_id"][0]
                    for row in rows
                    if row["label"] == [0.0]
                    and row["position"] == [event.position]
                ]
                known = set(first_seen.index[first_seen <= event.time])
                assert len(set(drawn)) == len(drawn) <= 3
                assert set(drawn) <= known - taken[user]
                if len(known - taken[user]) == 0:
                    assert not drawn
                num_negatives += len(drawn)
    assert num_negatives > 2.5 * len(log)


def test_negatives_do_not_depend_on_shards(world, implicit, tmp_path):
    runs.run(implicit_spec(), world[0], tmp_path, num_shards=1)
    for split in SPLITS:
        one, three = (
            by_user(runs.read_examples(path / "examples" / f"Split-{split}"))
            for path in (tmp_path, implicit)
        )
        assert one == three


def test_cold_users_do_not_change_the_negatives_of_others(
    world, implicit, tmp_path
):
    folder = tmp_path / "world"
    folder.mkdir()
    for name in ("users.csv", "items.csv"):
        (folder / name).write_bytes((world[0] / name).read_bytes())
    cold = arrange_with_pandas(world[1]).query("split == 'meta_test'")
    left_out = world[1][~world[1]["user"].isin(set(cold["user"]))]
    left_out.to_csv(folder / "log.csv", index=False)
    runs.run(implicit_spec(), folder, tmp_path / "out", num_shards=3)
    for split in SPLITS[:2]:
        without, with_cold = (
            by_user(runs.read_examples(path / "examples" / f"Split-{split}"))
            for path in (tmp_path / "out", implicit)
        )
        assert without == with_cold


def test_every_split_has_a_file_even_without_users(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating,time\na,b,5,1\n")
    runs.run(runs.make_spec(), tmp_path, tmp_path / "out")
    examples = tmp_path / "out" / "examples"
    for split in SPLITS:
        assert list((examples / f"Split-{split}").glob("*.gz"))
    assert sorted(path.name for path in examples.iterdir()) == sorted(
        f"Split-{split}" for split in SPLITS
    )
    assert runs.read_examples(examples / "Split-meta_test") == []


def test_bad_rows_become_dead_letters_and_the_run_goes_on(tmp_path):
    bad = [
        (",b,5,1", "empty_user_id"),
        ("a,  ,5,1", "empty_item_id"),
        ("a,b,,1", "missing_label"),
        ("a,b,NaN,1", "missing_label"),
        ("a,b,five,1", "unparsable_label"),
        ("a,b,inf,1", "unparsable_label"),
        ("a,b,5,yesterday", "unparsable_timestamp"),
        ("a,b,5,", "unparsable_timestamp"),
        ("a,b,5,2000", "timestamp_in_future"),
        ("a,b,5", "wrong_column_count"),
        ("a,b,5,1,6", "wrong_column_count"),
        ("a,good,1,7", "duplicate_event"),
    ]
    lines = ["user,item,rating,time", "a,good,5,7"]
    lines += [line for line, _ in bad]
    lines += [f"u{n},good,5,7" for n in range(10)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    spec = runs.make_spec(max_dead_letter_share=0.6)
    artifacts = runs.run(spec, tmp_path, tmp_path / "out", now=1000)
    letters = runs.read_letters(tmp_path / "out" / "dead_letters")
    assert {(letter["row"], letter["reason"]) for letter in letters} == {
        (row, reason) for row, (_, reason) in enumerate(bad, start=3)
    }
    train = runs.read_examples(
        tmp_path / "out" / "examples" / "Split-meta_train"
    )
    assert len(train) == 11
    # Of two events at one time, the one that stood first is kept.
    assert {tuple(row["label"]) for row in train} == {(1.0,)}
    counted = artifacts["dead_letters"].get_int_custom_property(
        "interactions.missing_label"
    )
    assert counted == 2


def test_too_many_dead_letters_stop_the_run(tmp_path):
    lines = ["user,item,rating,time"] + ["a,b,x,1"] * 2 + ["c,d,5,1"] * 8
    (tmp_path / "log.csv").write_text("\n".join(lines))
    with pytest.raises(DeadLetterShareError) as stopped:
        runs.run(runs.make_spec(), tmp_path, tmp_path / "out")
    message = str(stopped.value)
    assert "9 of 10 rows of `interactions`" in message
    assert "2 unparsable_label" in message
    assert "log.csv, row 2: 'x'" in message


def test_a_log_of_which_no_row_can_be_used_stops_the_run(tmp_path):
    lines = ["user,item,rating,time"] + ["a,b,5,yesterday"] * 9
    (tmp_path / "log.csv").write_text("\n".join(lines))
    with pytest.raises(DeadLetterShareError) as stopped:
        runs.run(runs.make_spec(), tmp_path, tmp_path / "out")
    message = str(stopped.value)
    assert "9 of 9 rows of `interactions`" in message
    assert "9 unparsable_timestamp" in message


def test_a_file_of_bad_rows_alone_counts_among_the_others(tmp_path):
    lines = ["user,item,rating,time"]
    good = [f"u{n},b,5,{n}" for n in range(97)]
    (tmp_path / "log-1.csv").write_text("\n".join(lines + good))
    (tmp_path / "log-2.csv").write_text("\n".join(lines + ["a,b,x,1"] * 3))
    spec = runs.make_spec(
        interactions=runs.INTERACTIONS | {"files": "log-*.csv"}
    )
    runs.run(spec, tmp_path, tmp_path / "out")
    letters = runs.read_letters(tmp_path / "out" / "dead_letters")
    assert len(letters) == 3
    examples = tmp_path / "out" / "examples"
    assert sum(len(runs.read_examples(p)) for p in examples.iterdir()) == 97


def test_unknown_column_is_named_with_the_closest_one(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,ratings,time\na,b,5,1\n")
    with pytest.raises(InputDataError) as raised:
        runs.run(runs.make_spec(), tmp_path, tmp_path / "out")
    message = str(raised.value)
    assert "log.csv has no column 'rating'" in message
    assert "Did you mean 'ratings'?" in message


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputDataError, match=r"no file 'log\.csv'"):
        runs.run(runs.make_spec(), tmp_path, tmp_path / "out")


def test_a_log_without_a_row_stops_the_run_and_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating,time\n")
    with pytest.raises(InputDataError, match=r"log\.csv\) holds no event"):
        runs.run(runs.make_spec(), tmp_path, tmp_path / "out")


def test_users_that_no_row_lists_are_counted_in_every_shard(tmp_path):
    lines = [f"u{user},b,5,1" for user in range(20)]
    (tmp_path / "log.csv").write_text(
        "\n".join(["user,item,rating,time", *lines])
    )
    (tmp_path / "users.csv").write_text("user,city\nu3,Rome\n")
    users = {
        "files": "users.csv",
        "key": "user",
        "features": {"city": "categorical"},
    }
    output = tmp_path / "out"
    runs.run(runs.make_spec(users=users), tmp_path, output, num_shards=4)
    path = output / "dead_letters" / "summary.json"
    assert json.loads(path.read_text())["users"]["not_in_their_table"] == 19
