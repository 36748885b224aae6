"""Dataset specs: what they accept, and how they say no."""

import copy

import pytest

from components.dataset_spec import DatasetSpec
from components.errors import DatasetSpecError

SPEC = {
    "name": "shop",
    "description": "Clicks of a shop",
    "max_dead_letter_share": 0.1,
    "interactions": {
        "files": ["2025-*.csv", "2026-*.csv"],
        "delimiter": ";",
        "columns": ["who", "what", "stars", "when"],
        "encoding": "latin-1",
        "quoting": False,
        "user": "who",
        "item": "what",
        "timestamp": {"column": "when", "format": "%d.%m.%Y %H:%M"},
        "label": {
            "column": "stars",
            "at_least": 3.5,
            "lowest": 0.5,
            "highest": 5,
        },
    },
    "users": {
        "files": "users.parquet",
        "format": "parquet",
        "key": "who",
        "features": {
            "age": "numeric",
            "region": {
                "kind": "categorical",
                "column": "zip",
                "pattern": "^(..)",
            },
        },
    },
    "items": {
        "files": "items.csv",
        "key": "what",
        "display": "title",
        "features": {
            "tags": {"kind": "categorical_list", "separator": "|"},
            "genres": {
                "kind": "categorical_list",
                "flags": ["Drama", "Comedy"],
            },
        },
    },
    "fetch": {
        "aliases": ["old-shop"],
        "sha256": {"users.parquet": "0" * 64},
        "sources": [
            {
                "url": "https://example.org/shop.zip",
                "members": {"users.parquet": "shop/users.parquet"},
            },
            {"urls": {"users.parquet": "https://example.org/users"}},
            {"wheel": "shop==1", "convert": "c", "sha256": {"a": "1" * 64}},
        ],
    },
}


def changed(path, value):
    """The spec with the value at a dotted path set, or removed if None."""
    spec = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    place = spec
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return spec


def test_spec_survives_the_way_through_json():
    spec = DatasetSpec.from_dict(SPEC, "shop.yaml", folder="/data")
    assert DatasetSpec.from_json(spec.to_json()) == spec
    assert spec.folder == "/data"


def test_implicit_spec_survives_the_way_through_json():
    rule = {"implicit": {"negatives": 2, "power": 0.5}}
    values = changed("interactions.label", rule)
    spec = DatasetSpec.from_dict(values, "shop.yaml")
    assert spec.label.is_implicit
    assert DatasetSpec.from_json(spec.to_json()) == spec


MIX = [
    {
        "name": "web",
        "users": "own",
        "files": ["web.csv"],
        "label": {"column": "stars", "at_least": 2},
        "weight": 0.25,
    },
    {"name": "kiosk", "users": "shared", "files": ["kiosk.csv"]},
]


def test_logs_of_a_mix_are_as_the_main_one_but_for_what_they_say():
    spec = DatasetSpec.from_dict({**SPEC, "mix": MIX}, "test")
    main, web, kiosk = spec.logs
    assert main is spec
    assert web.interactions.files == ("web.csv",)
    assert (web.label.at_least, web.user_column) == (2.0, "who")
    assert web.interactions.delimiter == ";"
    assert kiosk.label == main.label
    assert kiosk.interactions.files == ("kiosk.csv",)
    assert spec.draw_weights == {"web:": 0.25}
    files = [table.files[0] for table in spec.tables]
    assert files == [
        "2025-*.csv",
        "web.csv",
        "kiosk.csv",
        "users.parquet",
        "items.csv",
    ]
    assert DatasetSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Web"}, r"mix\[0\].name: expected lower-case"),
        ({"users": "both"}, r"mix\[0\].users: expected one of own, shared"),
        ({"weight": 0}, r"mix\[0\].weight: expected more than 0"),
        ({"users": "shared"}, r"mix\[0\].weight: only a log with users"),
        ({"name": "kiosk"}, r"mix: expected different names"),
        ({"lable": {}}, r"log 'web' of shop: interactions.lable: .* not known"),
        ({"label": {"implicit": {}}}, r"mix: expected either ratings"),
        ({"files": 3}, r"mix\[0\].files: expected a text"),
    ],
)
def test_wrong_mix_is_named_by_key_and_expectation(changes, message):
    mix = [MIX[0] | changes, MIX[1]]
    with pytest.raises(DatasetSpecError, match=message):
        DatasetSpec.from_dict({**SPEC, "mix": mix}, "test")


def test_shorthand_of_a_feature_reads_the_column_of_its_name():
    spec = DatasetSpec.from_dict(SPEC, "shop.yaml")
    age, region = spec.users.features
    assert (age.feature.kind, age.columns) == ("numeric", ("age",))
    assert (region.feature.name, region.columns) == ("region", ("zip",))


@pytest.mark.parametrize(
    ("path", "value", "key", "expected"),
    [
        ("name", None, "name", "required"),
        ("name", 7, "name", "expected a text, got 7"),
        ("name", "My Shop", "name", "lower-case"),
        ("name", "latest", "name", "link to the newest run"),
        ("nmae", "shop", "nmae", "Did you mean 'name'?"),
        ("max_dead_letter_share", "5%", "max_dead_letter_share", "a number"),
        ("max_dead_letter_share", 5, "max_dead_letter_share", "from 0 to 1"),
        ("interactions", None, "interactions", "required"),
        ("interactions", "log.csv", "interactions", "a mapping of keys"),
        ("interactions.user", None, "interactions.user", "required"),
        ("interactions.user", "whom", "interactions.user", "mean 'who'?"),
        ("interactions.delimeter", ",", "interactions.delimeter", "delimiter"),
        ("interactions.format", "cvs", "interactions.format", "mean 'csv'?"),
        ("interactions.encoding", "utf-9", "interactions.encoding", "Python"),
        ("interactions.quoting", "no", "interactions.quoting", "true or fal"),
        ("interactions.columns", ["a", "a"], "interactions.columns", "once"),
        ("interactions.columns", [1, 2], "interactions.columns", "quotes"),
        (
            "interactions.timestamp.format",
            "seconds",
            "interactions.timestamp.format",
            "strptime",
        ),
        (
            "interactions.timestamp.format",
            "%s",
            "interactions.timestamp.format",
            "'%s' holds %s, which",
        ),
        (
            "interactions.label.at_least",
            "four",
            "interactions.label.at_least",
            "a number, got 'four'",
        ),
        (
            "interactions.label.at_least",
            True,
            "interactions.label.at_least",
            "a number, got True",
        ),
        (
            "interactions.label.lowest",
            None,
            "interactions.label.lowest",
            "required",
        ),
        (
            "interactions.label",
            {"column": "stars", "at_least": 4, "lowest": 4, "highest": 5},
            "interactions.label.lowest",
            "less than at_least (4), got 4",
        ),
        (
            "interactions.label",
            {"column": "stars", "at_least": 4, "lowest": 1, "highest": 3},
            "interactions.label.highest",
            "at_least (4) or more, got 3",
        ),
        (
            "interactions.label",
            {"implicit": {"negatives": 0}},
            "interactions.label.implicit.negatives",
            "expected 1 to 99, got 0",
        ),
        (
            "interactions.label",
            {"implicit": {"negatives": 100}},
            "interactions.label.implicit.negatives",
            "fit one request",
        ),
        *(
            (
                f"users.features.{name}",
                "categorical",
                f"users.features.{name}",
                f"column: {name}",
            )
            for name in ("zip code", "user-type", "größe", "2nd", "_x")
        ),
        ("users.key", None, "users.key", "required"),
        ("users.features.age", "nbr", "users.features.age.kind", "numeric"),
        ("users.features.age", 3, "users.features.age", "a kind"),
        ("users.features.label", "numeric", "users.features.label", "Rename"),
        ("users.features.tags", "categorical", "items.features", "unique"),
        (
            "users.features.region.pattern",
            "(",
            "users.features.region.pattern",
            "not a regular expression",
        ),
        (
            "users.features.region.pattern",
            "..",
            "users.features.region.pattern",
            "one group",
        ),
        (
            "users.features.region.separator",
            ",",
            "users.features.region.separator",
            "only a categorical_list",
        ),
        (
            "items.features.tags.separator",
            None,
            "items.features.tags.separator",
            "either `separator`",
        ),
        (
            "items.features",
            {"user_row": {"kind": "numeric", "column": "price"}},
            "items.features.user_row",
            "`column` says which column",
        ),
        (
            "fetch.sha256",
            {"u": "abc"},
            "fetch.sha256.u",
            "64 lower-case hex digits",
        ),
        ("fetch.sources", [{}], "fetch.sources[0]", "`url`, `urls`"),
    ],
)
def test_wrong_value_is_named_by_file_key_and_expectation(
    path, value, key, expected
):
    with pytest.raises(DatasetSpecError) as raised:
        DatasetSpec.from_dict(changed(path, value), "shop.yaml")
    message = str(raised.value)
    assert message.startswith(f"shop.yaml: {key}: ")
    assert expected in message
