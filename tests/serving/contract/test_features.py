import pytest

from serving.contract.errors import FeatureError
from serving.contract.features import KINDS, RESERVED_NAMES, Feature


@pytest.mark.parametrize("kind", KINDS)
def test_feature_survives_the_round_trip(kind):
    feature = Feature("age", kind)
    assert Feature.from_dict(feature.to_dict()) == feature


@pytest.mark.parametrize("name", ["", *sorted(RESERVED_NAMES)])
def test_reserved_names_are_refused(name):
    with pytest.raises(FeatureError, match=f"called '{name}'.*Rename"):
        Feature(name, "numeric")


def test_names_of_the_signatures_inputs_are_reserved():
    assert {
        "item_id",
        "label",
        "weight",
        "adaptive_weights",
        "k",
        "exclude_item_id",
        "examples",
    } <= RESERVED_NAMES


def test_names_of_what_stands_beside_features_are_reserved():
    assert {
        "item_row",
        "item_index",
        "draw_weight",
        "user_row",
        "judged_rows",
    } <= RESERVED_NAMES


def test_unknown_kind_is_refused_with_those_that_exist():
    with pytest.raises(FeatureError, match=r"'float'.*numeric"):
        Feature("age", "float")


@pytest.mark.parametrize("missing", ["name", "kind"])
def test_missing_key_is_named(missing):
    values = {"name": "age", "kind": "numeric"}
    del values[missing]
    with pytest.raises(FeatureError, match=f"'{missing}'"):
        Feature.from_dict(values)
