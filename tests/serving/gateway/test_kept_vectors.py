import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.kept_vectors import MAX_USERS, KeptVectors, Met, user_key

LENGTH = 3
MAX_ITEMS = 5
WEIGHTS = np.arange(4, dtype=np.float32)
MET = Met("ann", {"age": 30.0})


def vector(name):
    """What a model would say of an item: the same whenever it is asked."""
    random = np.random.default_rng(list(name.encode()))
    return random.normal(size=LENGTH).astype(np.float32)


@given(
    st.lists(
        st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=8),
        max_size=30,
    )
)
def test_what_is_found_is_what_was_kept_and_there_is_never_too_much(asked):
    kept = KeptVectors(LENGTH, MAX_ITEMS)
    told = set()
    for item_ids in asked:
        found, missing = kept.items(item_ids)
        assert len(found) == len(item_ids)
        for place, item_id in enumerate(item_ids):
            if place in missing:
                continue
            assert item_id in told
            np.testing.assert_array_equal(found[place], vector(item_id))
        new = [item_ids[place] for place in missing]
        kept.keep_items(new, np.array([vector(i) for i in new], np.float32))
        told |= {*item_ids}
        assert len(kept._row) <= MAX_ITEMS
        # What was kept last is there, so far as there is room.
        if len({*new}) <= MAX_ITEMS:
            assert kept.items(new)[1] == []


def test_vectors_found_stay_as_they_are_when_others_take_their_place():
    kept = KeptVectors(LENGTH, 1)
    kept.keep_items(["a"], vector("a")[np.newaxis])
    found, _ = kept.items(["a"])
    kept.keep_items(["b"], vector("b")[np.newaxis])
    np.testing.assert_array_equal(found[0], vector("a"))
    assert kept.items(["a"])[1] == [0]


def test_users_are_bounded_and_those_asked_for_stay():
    kept = KeptVectors(LENGTH, MAX_ITEMS)
    kept.keep_user(b"loyal", vector("loyal"), MET)
    for number in range(3 * MAX_USERS):
        kept.keep_user(str(number).encode(), vector("x"), MET)
        assert kept.user(b"loyal") is not None
        assert len(kept._users) + len(kept._users_before) <= MAX_USERS + 1
    assert kept.user(b"0") is None


def test_a_user_not_asked_for_is_gone_after_two_ages():
    kept = KeptVectors(LENGTH, MAX_ITEMS)
    kept.keep_user(b"gone", vector("gone"), MET)
    kept.keep_user(b"here", vector("here"), MET)
    kept.age_users()
    np.testing.assert_array_equal(kept.user(b"here"), vector("here"))
    kept.age_users()
    assert kept.user(b"gone") is None
    assert kept.user(b"here") is not None


def test_all_users_are_forgotten_at_once():
    kept = KeptVectors(LENGTH, MAX_ITEMS)
    for name in (b"a", b"b"):
        kept.keep_user(name, vector("x"), MET)
        kept.age_users()
    kept.forget_users()
    assert kept.user(b"a") is None
    assert kept.user(b"b") is None


FEATURES = st.dictionaries(
    st.sampled_from(["age", "tags", "segment"]),
    st.one_of(
        st.text(max_size=3),
        st.lists(st.text(max_size=3), max_size=3),
        st.floats(allow_nan=False),
    ),
)


@given(FEATURES, FEATURES)
def test_users_share_a_key_if_they_tell_the_same_and_only_then(one, other):
    def told(features):
        return {name: repr(value) for name, value in features.items()}

    same = user_key(WEIGHTS, one) == user_key(WEIGHTS.copy(), other)
    assert same == (told(one) == told(other))
    reordered = dict(reversed(one.items()))
    assert user_key(WEIGHTS, reordered) == user_key(WEIGHTS, one)


def test_other_weights_are_another_key_and_long_texts_no_longer_one():
    moved = WEIGHTS + np.float32([0, 0, 0, 1e-6 + 3e-7])
    assert user_key(moved, {}) != user_key(WEIGHTS, {})
    assert len(user_key(WEIGHTS, {"tags": ["x" * 1000] * 1000})) == len(
        user_key(WEIGHTS, {})
    )


def test_users_who_came_last_are_named_first_and_those_only_expected_not():
    kept = KeptVectors(LENGTH, MAX_ITEMS)
    for name in ("ann", "bob", "cem"):
        kept.keep_user(
            name.encode(), vector(name), Met(name, {}), came=name != "bob"
        )
    assert [met.user_id for met in kept.users_met] == ["cem", "ann"]
    kept.age_users()
    kept.keep_user(b"dee", vector("dee"), Met("dee", {}))
    assert kept.has_user(b"bob")
    assert [met.user_id for met in kept.users_met] == ["dee", "cem", "ann"]
    # Now he did come.
    assert kept.user(b"bob") is not None
    assert next(kept.users_met).user_id == "bob"
    kept.forget_users()
    assert not kept.has_user(b"bob")
    assert [*kept.users_met] == []


def test_what_was_told_at_length_is_not_kept():
    kept = KeptVectors(LENGTH, MAX_ITEMS)
    kept.keep_user(b"x", vector("x"), Met("x", {"tags": ["long"] * 1000}))
    assert kept.user(b"x") is not None
    assert [*kept.users_met] == []
