import dataclasses

import keras_tuner
import pytest

from trainer.config import PARTITION_PRESETS, TrainerConfig
from trainer.tuning.search_space import search_space, searched_values


def test_searched_names_are_hyper_parameters_with_their_defaults():
    values = search_space(TrainerConfig(), 0).values
    assert TrainerConfig.from_dict(values) == TrainerConfig()
    assert len(values) > 8


def test_search_starts_where_the_dataset_says():
    base = TrainerConfig(
        max_support_events=7, outer_lr=0.5, num_inner_steps=12, vector_size=5
    )
    space = search_space(base, 0)
    assert TrainerConfig.from_dict(space.values) == base
    choices = {hp.name: hp for hp in space.space}
    assert choices["max_support_events"].values == [7, 20, 80, 1000]
    assert choices["num_inner_steps"].values == [1, 2, 3, 5, 8, 12]
    assert choices["outer_lr"].max_value == 0.5


@pytest.mark.parametrize("name", ["item_l2", "partition_penalty"])
def test_search_may_start_at_zero(name):
    base = TrainerConfig(partition="learned", **{name: 0.0})
    space = search_space(base, 0)
    assert space.values[name] == 0.0
    [found] = [hp for hp in space.space if hp.name == name]
    assert (found.min_value, found.max_value > 0) == (0.0, True)


def test_pinned_names_are_not_searched():
    names = set(search_space(TrainerConfig(), 0).values)
    pinned = {"partition", "outer_lr", "num_inner_steps"}
    assert (
        set(search_space(TrainerConfig(), 0, pinned).values) == names - pinned
    )


def test_every_preset_can_be_chosen():
    [partition] = [
        hp
        for hp in search_space(TrainerConfig(), 0).space
        if hp.name == "partition"
    ]
    assert set(partition.values) == set(PARTITION_PRESETS)


@pytest.fixture
def draws():
    """Values of two hundred trials at random."""
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("any", "max"),
        hyperparameters=search_space(TrainerConfig(), 64),
        seed=1,
    )
    return [oracle.populate_space(str(i))["values"] for i in range(200)]


def test_draws_are_configurations_but_for_solvers_without_a_tower(draws):
    refused = 0
    for values in draws:
        if (values["solver"], values["partition"]) == ("newton", "user_tower"):
            refused += 1
            continue
        config = TrainerConfig.from_dict(values)
        assert values.items() <= dataclasses.asdict(config).items()
        assert config.max_bytes_per_user == 64
    assert 0 < refused < 40


def test_what_means_nothing_for_a_partition_is_not_drawn(draws):
    for values in draws:
        partition = values["partition"]
        ranked = partition in ("low_rank", "learned")
        assert ("adapter_rank" in values) == ranked
        assert ("partition_penalty" in values) == (partition == "learned")
        gradient = values["solver"] == "gradient"
        assert ("num_inner_steps" in values) == gradient


def test_condition_on_a_pinned_name_is_decided_beforehand():
    pinned = {"partition"}
    low_rank = search_space(TrainerConfig(partition="low_rank"), 0, pinned)
    assert "adapter_rank" in low_rank.values
    bias = search_space(TrainerConfig(partition="user_bias"), 0, pinned)
    assert "adapter_rank" not in bias.values


def test_values_of_the_oracle_itself_are_no_hyper_parameters():
    assert searched_values({"dropout": 0.1, "tuner/epochs": 3}) == {
        "dropout": 0.1
    }
