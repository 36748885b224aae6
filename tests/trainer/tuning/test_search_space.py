import dataclasses

import pytest

from trainer.config import PARTITION_PRESETS, TrainerConfig
from trainer.tuning.search_space import search_space, searched_values


def test_searched_names_are_hyper_parameters_with_their_defaults():
    values = search_space(TrainerConfig()).values
    assert TrainerConfig.from_dict(values) == TrainerConfig()
    assert len(values) > 8


def test_search_starts_where_the_dataset_says():
    base = TrainerConfig(
        max_support_events=7, outer_lr=0.5, num_inner_steps=12, vector_size=5
    )
    space = search_space(base)
    assert TrainerConfig.from_dict(space.values) == base
    choices = {hp.name: hp for hp in space.space}
    assert choices["max_support_events"].values == [7, 20, 80, 1000]
    assert choices["outer_lr"].max_value == 0.5


def test_pinned_names_are_not_searched():
    names = set(search_space(TrainerConfig()).values)
    pinned = {"partition", "outer_lr", "num_inner_steps"}
    assert set(search_space(TrainerConfig(), pinned).values) == names - pinned


def test_every_preset_can_be_chosen():
    [partition] = [
        hp
        for hp in search_space(TrainerConfig()).space
        if hp.name == "partition"
    ]
    assert set(partition.values) == set(PARTITION_PRESETS)


@pytest.mark.parametrize("seed", range(5))
def test_any_draw_is_a_configuration(seed):
    space = search_space(TrainerConfig())
    drawn = {hp.name: hp.random_sample(seed) for hp in space.space}
    config = TrainerConfig.from_dict(drawn)
    assert drawn.items() <= dataclasses.asdict(config).items()


def test_values_of_the_oracle_itself_are_no_hyper_parameters():
    assert searched_values({"dropout": 0.1, "tuner/epochs": 3}) == {
        "dropout": 0.1
    }
