"""Signatures of the SavedModel against the model that was exported.

What a request must give is computed here from the transformed records, which
the served graph never sees, and from the model's own layers.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import prediction_log_pb2

from serving.contract.features import USER_ROW
from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_state import MetaState
from tests.helpers import raw_examples, tiny_world
from tests.helpers.numpy_two_tower import NumpyTwoTower
from trainer.export import WARMUP_FILE, export_model, fingerprint
from trainer.features import PAD
from trainer.stages import StageData
from trainer.two_tower import PartitionedTwoTower

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
# Raw user features of requests; None and [] are missing.
USERS = [
    {"gender": "f", "age": 33.0, "hobbies": ["go", "chess"]},
    {"gender": None, "age": None, "hobbies": []},
    {"gender": "unheard of", "age": 1e6, "hobbies": ["chess", "juggling"]},
]


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model with random parameters, and where it was exported to."""

    model: PartitionedTwoTower
    data: StageData
    output: tft.TFTransformOutput
    manifest: AdaptiveManifest
    folder: str


def export(tiny_episodes, folder, user_features, item_features):
    output = tft.TFTransformOutput(str(tiny_episodes.graph))
    data = StageData.read(
        [tiny_episodes.pattern("meta_train")],
        [tiny_episodes.pattern("meta_valid")],
        output,
        [feature.to_dict() for feature in user_features],
        [feature.to_dict() for feature in item_features],
    )
    model = PartitionedTwoTower(data.space, tiny_world.tiny_config())
    build_at_random(model, data)
    manifest = export_model(
        str(folder), model, data.catalog, data.space, output, "adaptower"
    )
    return Exported(model, data, output, manifest, str(folder))


def build_at_random(model, data):
    model.item_tower(data.catalog.ids)
    ids = {f.name: tf.zeros([1, 1], tf.int64) for f in data.space.user_features}
    model.user_tower(ids | {USER_ROW: tf.zeros([1, 1], tf.int64)})
    random = np.random.default_rng(3)
    for variable in model.variables:
        start = variable.numpy() if "log_" in variable.name else 0.0
        variable.assign(start + random.normal(0.0, 0.5, variable.shape))


@pytest.fixture(scope="module")
def exported(tiny_episodes, tmp_path_factory):
    return export(
        tiny_episodes,
        tmp_path_factory.mktemp("model"),
        raw_examples.USER_FEATURES,
        raw_examples.ITEM_FEATURES,
    )


class SessionModel:
    """Signatures as TF Serving runs them: a graph in a Session."""

    def __init__(self, folder):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(
                self._session, ["serve"], folder
            )
        self._signatures = loaded.signature_def

    def __call__(self, signature, **inputs):
        definition = self._signatures[signature]
        assert set(definition.inputs) == set(inputs)
        return self._session.run(
            {name: info.name for name, info in definition.outputs.items()},
            {
                definition.inputs[name].name: value
                for name, value in inputs.items()
            },
        )


class EagerModel:
    """Signatures as TensorFlow 2 loads them."""

    def __init__(self, folder):
        self._loaded = tf.saved_model.load(folder)

    def __call__(self, signature, **inputs):
        outputs = self._loaded.signatures[signature](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}


@pytest.fixture(scope="module", params=[SessionModel, EagerModel])
def served(request, exported):
    return request.param(exported.folder)


def raw_inputs(users):
    """What a client sends: '' and NaN are missing, lists are padded."""
    width = max(len(user["hobbies"]) for user in users)
    return {
        "gender": np.array([u["gender"] or "" for u in users], object),
        "age": np.array(
            [np.nan if u["age"] is None else u["age"] for u in users],
            np.float32,
        ),
        "hobbies": np.array(
            [u["hobbies"] + [""] * (width - len(u["hobbies"])) for u in users],
            object,
        ).reshape(len(users), width),
    }


def embed_users(exported, users):
    """Users through vocabularies in plain Python, then the user tower."""
    output = exported.output

    def number(name, value):
        known = output.vocabulary_by_name(name)
        encoded = value.encode() if value else None
        return known.index(encoded) if encoded in known else len(known)

    # Buckets of ages: those which Transform gave to the same age in training.
    ages = output.transform_features_layer()(
        {
            "age": tf.sparse.from_dense(
                [[0.0 if u["age"] is None else u["age"]] for u in users]
            )
        }
    )["age"].numpy()
    width = max(len(user["hobbies"]) for user in users)
    ids = {
        "gender": [[number("gender", u["gender"])] for u in users],
        "age": [
            [10 if u["age"] is None else age]
            for u, age in zip(users, ages, strict=True)
        ],
        "hobbies": [
            [number("hobbies", h) for h in u["hobbies"]]
            + [PAD] * (width - len(u["hobbies"]))
            for u in users
        ],
    }
    return exported.model.user_tower(
        {name: tf.constant(v, tf.int64) for name, v in ids.items()}
    )


def catalog_rows(exported, item_ids):
    known = list(exported.data.catalog.item_ids)
    encoded = np.vectorize(lambda i: i.encode() if isinstance(i, str) else i)
    return np.array(
        [
            [known.index(i) if i in known else len(known) for i in row]
            for row in encoded(np.array(item_ids, object))
        ]
    )


def embed_items(exported, item_ids):
    return exported.model.embed_items(
        exported.data.catalog.ids, catalog_rows(exported, item_ids)
    )


def some_weights(exported, users, seed=1):
    size = exported.manifest.num_adaptive
    random = np.random.default_rng(seed)
    return random.normal(size=[users, size]).astype(np.float32)


ITEMS = [
    ["0000", "0013", "never heard of"],
    ["0039", "", "0000"],
    ["0007", "0007", "0021"],
]


@pytest.mark.parametrize("signature", ["rank", "serving_default"])
def test_rank_scores_as_the_model_does(exported, served, signature):
    weights = some_weights(exported, 3)
    found = served(
        signature,
        **raw_inputs(USERS),
        item_id=np.array(ITEMS, object),
        adaptive_weights=weights,
    )
    expected = exported.model.score(
        embed_users(exported, USERS), embed_items(exported, ITEMS), weights
    )
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found["score"], expected, **TOLERANCE)


def test_rank_tells_which_items_the_model_knows(exported, served):
    found = served(
        "rank",
        **raw_inputs(USERS),
        item_id=np.array(ITEMS, object),
        adaptive_weights=some_weights(exported, 3),
    )
    unknown = len(exported.data.catalog.item_ids)
    known = catalog_rows(exported, ITEMS) != unknown
    assert known.tolist() == [
        [True, True, False],
        [True, False, True],
        [True] * 3,
    ]
    np.testing.assert_array_equal(found["item_known"], known)


def test_dot_products_of_vectors_are_the_models_scores(exported, served):
    weights = some_weights(exported, 3)
    found = served(
        "embed",
        **raw_inputs(USERS),
        item_id=np.array(ITEMS, object),
        adaptive_weights=weights,
    )
    expected = exported.model.score(
        embed_users(exported, USERS), embed_items(exported, ITEMS), weights
    )
    size = exported.manifest.vector_size
    assert found["user_vector"].shape == (3, size)
    assert found["item_vector"].shape == (3, 3, size)
    np.testing.assert_allclose(
        [
            items @ user
            for user, items in zip(
                found["user_vector"], found["item_vector"], strict=True
            )
        ],
        expected,
        **TOLERANCE,
    )
    # The same item has the same vector whoever is asked about.
    np.testing.assert_array_equal(
        found["item_vector"][0, 0], found["item_vector"][1, 2]
    )
    unknown = len(exported.data.catalog.item_ids)
    np.testing.assert_array_equal(
        found["item_known"], catalog_rows(exported, ITEMS) != unknown
    )


def test_users_of_one_batch_keep_their_own_weights(exported, served):
    weights = some_weights(exported, 2)
    user, items = USERS[0], ITEMS[0]

    def score(rows):
        return served(
            "rank",
            **raw_inputs([user] * len(rows)),
            item_id=np.array([items] * len(rows), object),
            adaptive_weights=weights[rows],
        )["score"]

    both = score([0, 1])
    assert np.abs(both[0] - both[1]).max() > 0.1
    np.testing.assert_allclose(both[:1], score([0]), **TOLERANCE)
    np.testing.assert_allclose(both[1:], score([1]), **TOLERANCE)


def some_meta_state(exported):
    """Another one than the exported."""
    state = exported.manifest.meta_state
    random = np.random.default_rng(7)
    return MetaState(
        state.meta_init + random.normal(0.0, 0.3, state.meta_init.shape),
        state.log_inner_lr + random.normal(0.0, 0.3, state.log_inner_lr.shape),
        version=1,
    )


def exported_state(exported):
    return exported.manifest.meta_state


@pytest.mark.parametrize("state_of", [exported_state, some_meta_state])
def test_adapt_learns_as_the_model_does(exported, served, state_of):
    start = some_weights(exported, 3)
    state = state_of(exported)
    label = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], np.float32)
    weight = np.array([[1, 2.5, 1], [1, 0, 0], [0, 0, 0]], np.float32)
    found = served(
        "adapt",
        **raw_inputs(USERS),
        item_id=np.array(ITEMS, object),
        label=label,
        weight=weight,
        adaptive_weights=start,
        **state.inputs(),
    )
    user, items = embed_users(exported, USERS), embed_items(exported, ITEMS)
    # Without a meta state the model takes its variables: the exported one.
    given = {} if state.version == 0 else state.inputs()
    adapted = exported.model.adapt(user, items, label, weight, start, **given)
    np.testing.assert_allclose(found["adaptive_weights"], adapted, **TOLERANCE)
    for name, weights in (("loss_before", start), ("loss_after", adapted)):
        logits = exported.model.score(user, items, weights).numpy()
        losses = np.logaddexp(0, logits) - label * logits
        mean = (weight * losses).sum(1) / np.maximum(weight.sum(1), 1e-6)
        np.testing.assert_allclose(found[name], mean, **TOLERANCE)
    assert found["loss_after"][0] < found["loss_before"][0]


def test_adapt_without_events_keeps_the_meta_init(exported, served):
    meta_init = np.array([exported.manifest.meta_init], np.float32)
    found = served(
        "adapt",
        **raw_inputs(USERS[:1]),
        item_id=np.empty([1, 0], object),
        label=np.empty([1, 0], np.float32),
        weight=np.empty([1, 0], np.float32),
        adaptive_weights=meta_init,
        **exported.manifest.meta_state.inputs(),
    )
    np.testing.assert_array_equal(found["adaptive_weights"], meta_init)
    assert found["loss_before"] == found["loss_after"] == 0.0


def some_tasks():
    """Inputs of `meta_gradient`; the second task has no support set."""
    random = np.random.default_rng(11)
    inputs = {}
    for half, items in (("support", ITEMS), ("query", ITEMS[::-1])):
        inputs[f"{half}_item_id"] = np.array(items, object)
        label = random.integers(0, 2, [3, 3]).astype(np.float32)
        inputs[f"{half}_label"] = label
        inputs[f"{half}_weight"] = np.array(
            [[1, 2.5, 1], [0, 0, 0], [1, 1, 0]], np.float32
        )
    inputs["query_weight"][1] = 1.0
    return inputs


class NumpyTasks:
    """Losses of `some_tasks` by the inner loop in NumPy and float64."""

    def __init__(self, exported, tasks):
        self._oracle = NumpyTwoTower.of(exported.model, exported.data.space)
        self._tasks = {
            name: value if value.dtype.kind == "O" else to_float64(value)
            for name, value in tasks.items()
        }
        vectors, biases = to_float64(embed_users(exported, USERS)[:2])
        self._users = list(zip(vectors, biases[:, 0], strict=True))
        self._items = {
            half: embed_items(exported, tasks[f"{half}_item_id"])
            for half in ("support", "query")
        }

    def losses(self, meta_init, log_inner_lr):
        """Mean query loss of each task."""
        oracle = self._oracle
        oracle.meta_init, oracle.log_inner_lr = meta_init, log_inner_lr
        losses = []
        for number, user in enumerate(self._users):
            items, label, weight = self._half("support", number)
            adapted = oracle.adapt(user, items, label, weight, meta_init)
            items, label, weight = self._half("query", number)
            logits = oracle.score(user, items, adapted)
            loss = np.logaddexp(0, logits) - label * logits
            losses.append(weight @ loss / weight.sum())
        return np.array(losses)

    def _half(self, half, number):
        vectors, biases = to_float64(self._items[half])
        return (
            (vectors[number], biases[number, :, 0]),
            self._tasks[f"{half}_label"][number],
            self._tasks[f"{half}_weight"][number],
        )

    def slopes(self, meta_init, log_inner_lr, step=1e-6):
        """Central differences of the losses' sum by both arguments."""
        arrays = [meta_init.copy(), log_inner_lr.copy()]
        slopes = [np.empty_like(array) for array in arrays]
        for array, slope in zip(arrays, slopes, strict=True):
            for place in np.ndindex(*array.shape):
                value = array[place]
                array[place] = value + step
                above = self.losses(*arrays).sum()
                array[place] = value - step
                slope[place] = (above - self.losses(*arrays).sum()) / (2 * step)
                array[place] = value
        return slopes


def to_float64(tensors):
    return tf.nest.map_structure(lambda t: np.array(t, np.float64), tensors)


@pytest.mark.parametrize("state_of", [exported_state, some_meta_state])
def test_meta_gradients_are_slopes_of_the_query_loss(
    exported, served, state_of
):
    state, tasks = state_of(exported), some_tasks()
    found = served(
        "meta_gradient", **raw_inputs(USERS), **tasks, **state.inputs()
    )
    oracle = NumpyTasks(exported, tasks)
    at = [np.array(value, np.float64) for value in state.inputs().values()]
    np.testing.assert_allclose(found["loss"], oracle.losses(*at), **TOLERANCE)
    by_init, by_steps = oracle.slopes(*at)
    for slopes in (by_init, by_steps):
        assert np.abs(slopes).max() > 1e-2
    np.testing.assert_allclose(
        found["meta_init_gradient"], by_init, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        found["log_inner_lr_gradient"], by_steps, rtol=1e-4, atol=1e-5
    )


def test_a_session_differentiates_as_eager_tensorflow_does(exported):
    state, tasks = some_meta_state(exported), some_tasks()
    inputs = {**raw_inputs(USERS), **tasks, **state.inputs()}
    in_session, eager = (
        load(exported.folder)("meta_gradient", **inputs)
        for load in (SessionModel, EagerModel)
    )
    assert in_session.keys() == eager.keys()
    for name, value in eager.items():
        np.testing.assert_allclose(in_session[name], value, atol=1e-5)


def test_a_task_without_query_rows_adds_nothing(exported, served):
    state, tasks = exported.manifest.meta_state, some_tasks()
    tasks["query_weight"][1] = 0.0
    found = served(
        "meta_gradient", **raw_inputs(USERS), **tasks, **state.inputs()
    )
    rows = [0, 2]
    without = served(
        "meta_gradient",
        **raw_inputs([USERS[row] for row in rows]),
        **{name: value[rows] for name, value in tasks.items()},
        **state.inputs(),
    )
    assert found["loss"][1] == 0.0
    for name in ("meta_init_gradient", "log_inner_lr_gradient"):
        np.testing.assert_allclose(found[name], without[name], **TOLERANCE)


def recommend(served, users, weights, k, exclude):
    width = max(map(len, exclude))
    return served(
        "recommend",
        **raw_inputs(users),
        adaptive_weights=weights,
        k=np.int32(k),
        exclude_item_id=np.array(
            [row + [""] * (width - len(row)) for row in exclude], object
        ).reshape(len(exclude), width),
    )


def brute_force(exported, served, users, weights):
    """Items by score, best first, ranked with the whole catalog as input."""
    item_ids = list(exported.data.catalog.item_ids)
    scores = served(
        "rank",
        **raw_inputs(users),
        item_id=np.array([item_ids] * len(users), object),
        adaptive_weights=weights,
    )["score"]
    return [
        sorted(zip(row, item_ids, strict=True), reverse=True) for row in scores
    ]


@pytest.mark.parametrize("k", [1, 5, 40, 1000])
def test_recommend_finds_the_best_of_the_catalog(exported, served, k):
    weights = some_weights(exported, 3)
    exclude = [["0003", "0003", "unknown"], [], ["0000", "0039"]]
    found = recommend(served, USERS, weights, k, exclude)
    ranked = brute_force(exported, served, USERS, weights)
    assert found["item_id"].shape == (3, min(k, 40))
    for user, best in enumerate(ranked):
        allowed = [
            pair for pair in best if pair[1].decode() not in exclude[user]
        ][:k]
        size = len(allowed)
        assert found["item_id"][user].tolist() == [i for _, i in allowed] + [
            b""
        ] * (min(k, 40) - size)
        np.testing.assert_allclose(
            found["score"][user][:size], [s for s, _ in allowed], **TOLERANCE
        )
        assert (found["score"][user][size:] == -np.inf).all()


def test_nothing_is_left_when_everything_is_excluded(exported, served):
    everything = [i.decode() for i in exported.data.catalog.item_ids]
    weights = some_weights(exported, 1)
    found = recommend(served, USERS[:1], weights, 3, [everything])
    assert found["item_id"].tolist() == [[b""] * 3]
    assert (found["score"] == -np.inf).all()


def test_recommend_takes_no_exclusions_at_all(exported, served):
    weights = some_weights(exported, 2)
    found = recommend(served, USERS[:2], weights, 2, [[], []])
    ranked = brute_force(exported, served, USERS[:2], weights)
    assert found["item_id"].tolist() == [[i for _, i in r[:2]] for r in ranked]


def test_examples_are_scored_at_the_meta_init(exported, served, tiny_episodes):
    rows = tiny_episodes.data.events["meta_test"][::37]
    found = served(
        "score_examples",
        examples=np.array([raw_examples.to_example(r) for r in rows], object),
    )
    expected = exported.model.score(
        embed_users(exported, rows),
        embed_items(exported, [[row["item_id"]] for row in rows]),
        exported.model.initial_weights(len(rows)),
    )
    np.testing.assert_allclose(found["score"], expected[:, 0], **TOLERANCE)


def test_transformed_users_are_those_of_the_episodes(exported, tiny_episodes):
    """The vocabularies of this file's oracle agree with the pipeline's."""
    rows = [next(r for r in tiny_episodes.data.events["meta_valid"])]
    episode = next(exported.data.meta_valid.as_numpy_iterator())
    ids = {
        name: tf.constant(episode[name])[tf.newaxis]
        for name in ("gender", "age", "hobbies")
    }
    for a, b in zip(
        exported.model.user_tower(ids), embed_users(exported, rows), strict=True
    ):
        np.testing.assert_allclose(a, b, **TOLERANCE)


def test_manifest_says_what_the_model_is(exported):
    manifest = AdaptiveManifest.load(exported.folder)
    assert manifest == exported.manifest
    assert manifest.model_name == "adaptower"
    assert manifest.user_features == raw_examples.USER_FEATURES
    assert manifest.meta_init == tuple(
        exported.model.partition.meta_init().numpy().tolist()
    )
    steps = exported.model.inner_loop.log_inner_lr.numpy()
    assert manifest.log_inner_lr == tuple(map(tuple, steps.tolist()))
    assert manifest.fingerprint == fingerprint(
        exported.model, exported.data.catalog
    )


def test_warmup_requests_run_on_the_model(exported, served):
    path = f"{exported.folder}/{WARMUP_FILE}"
    signatures = []
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        assert request.model_spec.name == "adaptower"
        signature = request.model_spec.signature_name
        outputs = served(
            signature,
            **{n: tf.make_ndarray(v) for n, v in request.inputs.items()},
        )
        for value in outputs.values():
            assert value.dtype == object or np.isfinite(value).all()
        signatures.append(signature)
    assert set(signatures) == {
        "rank",
        "embed",
        "adapt",
        "meta_gradient",
        "recommend",
    }


def test_fingerprint_follows_every_fixed_variable(exported):
    model, catalog = exported.model, exported.data.catalog
    before = fingerprint(model, catalog)
    meta_state = {id(layer.meta_init) for layer in model.partition.layers}
    meta_state.add(id(model.inner_loop.log_inner_lr))
    seen = {before}
    for variable in model.variables:
        value = variable.numpy()
        changed = np.array(value)
        changed.reshape(-1)[-1] += 1e-3
        variable.assign(changed)
        found = fingerprint(model, catalog)
        variable.assign(value)
        assert (found == before) == (id(variable) in meta_state), variable.name
        seen.add(found)
    assert len(seen) == 1 + len(model.variables) - len(meta_state)
    assert fingerprint(model, catalog) == before


def test_fingerprint_follows_the_catalog(exported):
    catalog = exported.data.catalog
    other = dataclasses.replace(
        catalog, item_ids=[*catalog.item_ids[:-1], b"other"]
    )
    assert fingerprint(exported.model, other) != exported.manifest.fingerprint


@pytest.mark.parametrize("load", [SessionModel, EagerModel])
def test_model_without_any_feature_serves(tiny_episodes, tmp_path, load):
    exported = export(tiny_episodes, tmp_path, [], [])
    served = load(exported.folder)
    weights = some_weights(exported, 2)
    items = np.array([["0000", "0005"], ["nobody", "0001"]], object)
    ids = {USER_ROW: tf.zeros([2, 1], tf.int64)}
    expected = exported.model.score(
        exported.model.user_tower(ids), embed_items(exported, items), weights
    )
    found = served("rank", item_id=items, adaptive_weights=weights)
    np.testing.assert_allclose(found["score"], expected, **TOLERANCE)
    best = served(
        "recommend",
        adaptive_weights=weights,
        k=np.int32(3),
        exclude_item_id=np.empty([2, 0], object),
    )
    assert best["item_id"].shape == (2, 3)
    rows = tiny_episodes.data.events["meta_test"][:3]
    scores = served(
        "score_examples",
        examples=np.array([raw_examples.to_example(r) for r in rows], object),
    )
    assert scores["score"].shape == (3,)
