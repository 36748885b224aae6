"""Which model a new one is compared with."""

import pytest
from tfx.types.standard_artifacts import Model, ModelBlessing

from pipeline.earlier_blessed_model import EarlierBlessedModelStrategy


def make_model(artifact_id):
    model = Model()
    model.id = artifact_id
    return model


def make_blessing(model_id, blessed):
    blessing = ModelBlessing()
    blessing.set_int_custom_property("current_model_id", model_id)
    blessing.set_int_custom_property("blessed", blessed)
    return blessing


@pytest.mark.parametrize(
    ("trained", "blessed", "current", "expected"),
    [
        ([1], [], 1, []),
        ([1], [1], 1, []),
        ([1, 2], [1], 2, [1]),
        ([1, 2, 3], [1, 2], 3, [2]),
        ([1, 2, 3], [1], 3, [1]),
        ([1, 2], [1, 2], 2, [1]),
        # An older model is trained again (from the cache): it must hold its
        # own against the one that replaced it.
        ([1, 2], [1, 2], 1, [2]),
    ],
)
def test_newest_blessed_model_but_the_current_one(
    trained, blessed, current, expected
):
    blessings = [
        make_blessing(number, int(number in blessed)) for number in trained
    ]
    resolved = EarlierBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": [make_model(number) for number in trained],
            "model_blessing": blessings,
            "current_model": [make_model(current)],
        },
    )
    assert [model.id for model in resolved["model"]] == expected
    assert [
        blessing.get_int_custom_property("current_model_id")
        for blessing in resolved["model_blessing"]
    ] == expected
