import dataclasses
import math

import pytest

from trainer.config import PARTITION_PRESETS, TrainerConfig
from trainer.errors import TrainerConfigError


def test_values_override_defaults_by_name():
    config = TrainerConfig.from_dict({"vector_size": 8, "first_order": True})
    expected = dataclasses.replace(
        TrainerConfig(), vector_size=8, first_order=True
    )
    assert config == expected


def test_numbers_may_be_text():
    config = TrainerConfig.from_dict(
        {"vector_size": "8", "outer_lr": "1e-3", "first_order": "False"}
    )
    assert config.vector_size == 8
    assert config.outer_lr == 0.001
    assert config.first_order is False


def test_whole_floats_are_integers_and_integers_floats():
    config = TrainerConfig.from_dict({"vector_size": 8.0, "item_l2": 1})
    assert config.vector_size == 8
    assert isinstance(config.vector_size, int)
    assert isinstance(config.item_l2, float)


@pytest.mark.parametrize(
    ("name", "close"),
    [("vektor_size", "vector_size"), ("inner_steps", "num_inner_steps")],
)
def test_unknown_name_suggests_a_close_one(name, close):
    with pytest.raises(TrainerConfigError, match=f"'{name}'.*mean '{close}'"):
        TrainerConfig.from_dict({name: 1})


def test_unknown_name_with_nothing_near_suggests_nothing():
    with pytest.raises(TrainerConfigError, match="'xyzzy'") as error:
        TrainerConfig.from_dict({"xyzzy": 1})
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("vector_size", "many", "int"),
        ("vector_size", None, "int"),
        ("vector_size", 2.5, "int"),
        ("vector_size", "2.5", "int"),
        ("max_steps", math.inf, "int"),
        ("outer_lr", "fast", "float"),
        ("outer_lr", [0.1], "float"),
        ("first_order", "perhaps", "bool"),
        ("first_order", 2, "bool"),
        ("first_order", None, "bool"),
    ],
)
def test_value_of_another_type_is_refused(name, value, kind):
    with pytest.raises(
        TrainerConfigError, match=rf"{name} is .*expected {kind}"
    ):
        TrainerConfig.from_dict({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outer_lr", -0.1),
        ("outer_lr", math.nan),
        ("item_l2", math.inf),
        ("num_inner_steps", -1),
        ("vector_size", 0),
        ("max_steps", 0),
        ("steps_per_evaluation", 0),
        ("max_validation_users", 0),
    ],
)
def test_value_that_can_not_be_is_refused(name, value):
    with pytest.raises(TrainerConfigError, match=name):
        TrainerConfig(**{name: value})


def test_unknown_partition_is_refused_with_those_that_exist():
    with pytest.raises(TrainerConfigError, match="'all'") as error:
        TrainerConfig(partition="all")
    for preset in PARTITION_PRESETS:
        assert preset in str(error.value)


def test_newton_refuses_a_partition_whose_score_is_not_affine():
    with pytest.raises(TrainerConfigError, match=r"affine.*'user_tower'"):
        TrainerConfig(partition="user_tower", solver="newton")


def test_newton_has_neither_a_first_order_form_nor_no_steps():
    with pytest.raises(TrainerConfigError, match="first_order"):
        TrainerConfig(solver="newton", first_order=True)
    with pytest.raises(TrainerConfigError, match="num_inner_steps"):
        TrainerConfig(solver="newton", num_inner_steps=0)


def test_unknown_solver_is_refused_with_those_that_exist():
    with pytest.raises(TrainerConfigError, match=r"'ridge'.*gradient, newton"):
        TrainerConfig(solver="ridge")
