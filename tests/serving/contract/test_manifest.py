"""The adaptive manifest: what it keeps and what it refuses."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.contract.errors import ManifestError
from serving.contract.features import KINDS, Feature
from serving.contract.manifest import (
    MANIFEST_FILE,
    AdaptiveManifest,
    AdaptiveParameter,
)

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def manifests(draw):
    shapes = draw(st.lists(st.lists(st.integers(1, 3), max_size=2), max_size=4))
    parameters, offset = [], 0
    for shape in shapes:
        parameters.append(AdaptiveParameter(draw(NAMES), tuple(shape), offset))
        offset += math.prod(shape)
    meta_init = draw(st.lists(FLOATS, min_size=offset, max_size=offset))
    return AdaptiveManifest(
        model_name=draw(NAMES),
        fingerprint=draw(NAMES),
        parameters=tuple(parameters),
        meta_init=tuple(meta_init),
        user_features=tuple(
            Feature(f"f{n}", draw(st.sampled_from(KINDS)))
            for n in range(draw(st.integers(0, 3)))
        ),
        reservoir_events=draw(st.integers(0, 100)),
        log_inner_lr=tuple(
            tuple(draw(st.lists(FLOATS, min_size=offset, max_size=offset)))
            for _ in range(draw(st.integers(0, 2)))
        ),
        meta_init_version=draw(st.integers(0, 100)),
        inner_loop=draw(st.dictionaries(NAMES, st.lists(FLOATS, max_size=3))),
        evaluation=draw(st.dictionaries(NAMES, FLOATS)),
        vector_size=draw(st.integers(0, 100)),
    )


def a_manifest(**changes):
    return AdaptiveManifest(
        **{
            "model_name": "adaptower",
            "fingerprint": "f00",
            "parameters": (
                AdaptiveParameter("bias", (1,), 0),
                AdaptiveParameter("offset", (2, 2), 1),
            ),
            "meta_init": (0.5, 1.0, 2.0, 3.0, 4.0),
            "user_features": (Feature("age", "numeric"),),
            "reservoir_events": 32,
            **changes,
        }
    )


def as_json(**changes):
    return json.dumps({**json.loads(a_manifest().to_json()), **changes})


@given(manifests())
def test_manifest_survives_the_round_trip(manifest):
    assert AdaptiveManifest.from_json(manifest.to_json()) == manifest
    assert manifest.num_adaptive == sum(p.size for p in manifest.parameters)


def test_saved_manifest_is_loaded_from_its_model(tmp_path):
    manifest = a_manifest()
    manifest.save(tmp_path)
    assert (tmp_path / MANIFEST_FILE).is_file()
    assert AdaptiveManifest.load(tmp_path) == manifest
    assert AdaptiveManifest.load(str(tmp_path)) == manifest


def test_gap_between_parameters_is_refused():
    with pytest.raises(ManifestError, match="'offset' starts at 2, expected 1"):
        a_manifest(
            parameters=(
                AdaptiveParameter("bias", (1,), 0),
                AdaptiveParameter("offset", (4,), 2),
            )
        )


def test_meta_init_of_another_size_is_refused():
    with pytest.raises(ManifestError, match=r"has 2 values.*parameters 5"):
        a_manifest(meta_init=(0.0, 1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ManifestError, match="not finite"):
        a_manifest(meta_init=(0.0, 1.0, value, 3.0, 4.0))
    with pytest.raises(ManifestError, match="not finite"):
        a_manifest(log_inner_lr=((0.0, 1.0, value, 3.0, 4.0),))


def test_step_sizes_of_another_size_are_refused():
    with pytest.raises(
        ManifestError, match="step 1 has 4 step sizes, expected 5"
    ):
        a_manifest(log_inner_lr=((0.0,) * 5, (0.0,) * 4))


@pytest.mark.parametrize("num_steps", [0, 2])
def test_meta_state_is_the_exported_one(num_steps):
    steps = ((-0.5, 0.25, 1.0, 0.1, 7.0),) * num_steps
    manifest = AdaptiveManifest.from_json(
        as_json(log_inner_lr=steps, meta_init_version=3)
    )
    state = manifest.meta_state
    assert state.version == 3
    assert tuple(state.meta_init) == manifest.meta_init
    expected = np.array(steps, np.float32).reshape(num_steps, 5)
    np.testing.assert_array_equal(state.log_inner_lr, expected)


def test_not_finite_values_in_a_file_are_refused_too():
    text = a_manifest().to_json().replace("0.5", "NaN")
    with pytest.raises(ManifestError, match="not finite"):
        AdaptiveManifest.from_json(text)


@pytest.mark.parametrize("written", [0, 1, "2", None, 4])
def test_other_format_is_refused(written):
    expected = rf"format {written!r}.*reads up to 3"
    with pytest.raises(ManifestError, match=expected):
        AdaptiveManifest.from_json(as_json(format=written), where="m.json")


def test_model_exported_before_there_were_vectors_is_read():
    values = json.loads(as_json(format=2))
    del values["vector_size"]
    read = AdaptiveManifest.from_json(json.dumps(values))
    assert read == a_manifest(vector_size=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        b"\xff\xfe",
        "3",
        as_json(parameters=[{"name": "bias"}]),
        as_json(meta_init=None),
        as_json(meta_init=["x"]),
        as_json(log_inner_lr=[1.0]),
        as_json(user_features=[{"name": "age"}]),
        as_json(user_features=[{"name": "label", "kind": "numeric"}]),
        as_json(surprise=1),
    ],
)
def test_what_is_no_manifest_is_refused_by_its_path(text):
    with pytest.raises(ManifestError, match=r"here/m\.json is not an adaptive"):
        AdaptiveManifest.from_json(text, where="here/m.json")


def test_missing_key_is_named():
    values = json.loads(a_manifest().to_json())
    del values["fingerprint"]
    with pytest.raises(ManifestError, match="fingerprint"):
        AdaptiveManifest.from_json(json.dumps(values))


def test_model_without_manifest_is_named(tmp_path):
    with pytest.raises(ManifestError, match=rf"{tmp_path}.*No such file"):
        AdaptiveManifest.load(tmp_path)
