"""Several logs of one catalogue, read together."""

import pytest

from components.errors import InputDataError
from components.interaction_example_gen import executor
from components.interaction_example_gen.read_table import ReadTable
from serving.contract.protocol import SPLITS
from tests.components.interaction_example_gen.runs import (
    make_spec,
    read_examples,
    run,
)

NUM_USERS = 12
EVENTS = 31


def write_log(path, users, start, rating, header="user,item,rating,time"):
    """Each user has an event a minute, all rated alike."""
    lines = [
        f"{user},i{event},{rating},{start + 60 * event}"
        for user in users
        for event in range(EVENTS)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture(scope="module")
def spec():
    return make_spec(
        mix=[
            {
                "name": "web",
                "files": "web.csv",
                "user": "visitor",
                "label": {"column": "rating", "at_least": 2},
            },
            {"name": "kiosk", "files": "kiosk.csv", "users": "shared"},
        ]
    )


def test_users_of_their_own_are_only_learned_from_and_shared_ones_go_on(
    spec, tmp_path
):
    users = [f"u{number}" for number in range(NUM_USERS)]
    write_log(tmp_path / "log.csv", users, 1_000, rating=3)
    # The same ids, other people: their time is not the others' either.
    header = "visitor,item,rating,time"
    write_log(tmp_path / "web.csv", users, 0, rating=3, header=header)
    write_log(tmp_path / "kiosk.csv", users[:1], 9_000, rating=5)
    run(spec, tmp_path, tmp_path / "out", num_shards=3)
    folder = tmp_path / "out" / "examples"
    rows = {split: read_examples(folder / f"Split-{split}") for split in SPLITS}
    by_user = {}
    for split, examples in rows.items():
        for row in examples:
            user = row["user_id"][0]
            by_user.setdefault(user, (split, []))[1].append(row)
    assert set(by_user) == {*users, *(f"web:{user}" for user in users)}
    # Every log has its own threshold for a rating of 3.
    labels = {
        user: [row["label"][0] for row in found]
        for user, (_, found) in by_user.items()
    }
    for user in users:
        assert by_user[f"web:{user}"][0] == "meta_train"
        assert labels[f"web:{user}"] == [1.0] * EVENTS
        later = [1.0] * EVENTS if user == "u0" else []
        assert labels[user] == [0.0] * EVENTS + later
    assert {by_user[user][0] for user in users} > {"meta_train"}
    positions = [row["position"][0] for row in by_user["u0"][1]]
    assert positions == list(range(2 * EVENTS))


def test_user_ids_that_look_like_those_of_a_mixed_log_are_refused(
    spec, tmp_path
):
    for name, header in (
        ("log", "user,item,rating,time"),
        ("web", "visitor,item,rating,time"),
        ("kiosk", "user,item,rating,time"),
    ):
        path = tmp_path / f"{name}.csv"
        write_log(path, ["web:u1"], 0, rating=3, header=header)
    job = executor.make_job(
        {"dataset_spec": spec.to_json(), "data_folder": str(tmp_path)}, ""
    )
    reader = ReadTable(job, "interactions")
    with pytest.raises(InputDataError, match=r"'web:'.*log another name"):
        list(reader.process((0, job.files["interactions"][0])))


def test_missing_column_of_a_mixed_log_is_named(spec, tmp_path):
    for name in ("log", "web", "kiosk"):
        write_log(tmp_path / f"{name}.csv", ["u1"], 0, rating=3)
    with pytest.raises(InputDataError, match=r"web\.csv.*visitor"):
        run(spec, tmp_path, tmp_path / "out")
