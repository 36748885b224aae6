"""Imports the trainer first: it chooses Keras 2 before TensorFlow loads."""

import pytest

import trainer  # noqa: F401


@pytest.fixture(scope="session")
def tiny_episodes(tmp_path_factory):
    """A transform graph and an episodes artifact."""
    from tests.helpers.tiny_episodes import write_tiny_episodes

    return write_tiny_episodes(tmp_path_factory.mktemp("episodes"))
