"""Users of a stream, and an online stage that learns from users."""

import pytest

from tests.helpers.online_stage import Stages
from tests.helpers.stream_users import make_users


@pytest.fixture
def stages(tmp_path):
    stages = Stages(tmp_path)
    yield stages
    stages.close()


@pytest.fixture(scope="module")
def users():
    return make_users(14)
