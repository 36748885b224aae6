import time

from serving.model_server.config import parse_args
from serving.model_server.models import Models
from tests.serving.conftest import push


def test_loading_leaves_the_cpu_to_those_who_are_answered(
    toys, tmp_path, monkeypatch
):
    rests = []
    monkeypatch.setattr(time, "sleep", rests.append)
    models = Models(parse_args([f"--model=toy={tmp_path}"]))
    push(toys[0], tmp_path, 1)
    models.poll()
    assert models.find("toy").available == (1,)
    assert not rests  # Nobody is answered yet.
    push(toys[1], tmp_path, 2)
    models.poll()
    assert models.find("toy").available == (1, 2)
    assert rests
    assert all(rest > 0 for rest in rests)
