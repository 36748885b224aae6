"""Steps of the outer loop whose users, or model server, are not as usual."""

import asyncio

import numpy as np

from serving.errors import BackendUnavailableError
from serving.online.told import encode_told
from serving.protos import recommender_pb2 as pb
from serving.store import UserKey
from tests.helpers.meta_gateway import CONFIG, MetaGateway


def test_a_failing_model_server_fails_no_feedback(users, tmp_path, caplog):
    gateway = MetaGateway(tmp_path)
    predict = gateway.backend.predict

    async def fail(model, version, signature, inputs):
        if signature == "meta_gradient":
            raise BackendUnavailableError("gone")
        return await predict(model, version, signature, inputs)

    gateway.backend.predict = fail
    scores = asyncio.run(gateway.replay(users))
    assert len(scores) == len(users)
    assert gateway.meta_state.version == 0
    assert "stays as it is: gone" in caplog.text
    assert set(gateway.outcomes) == {"failed"}


def test_a_step_without_any_users_left_is_none(users, tmp_path):
    gateway = MetaGateway(tmp_path)

    async def run():
        await gateway.registry.refresh()
        model = gateway.registry.resolve()
        steps = []
        for user in users:
            gateway.know(user.user_id)
            gateway.store.delete(UserKey("adaptower", user.user_id))
            events = user.events(range(20))
            steps.append(
                gateway.stage.observe(
                    model, user.user_id, b"", events[:10], 10, events[10:]
                )
            )
        await asyncio.gather(*filter(None, steps))

    asyncio.run(run())
    assert set(gateway.outcomes) == {"deserted"}
    assert "meta_gradient" not in gateway.backend.calls
    assert gateway.meta_state.version == 0


def test_features_of_different_lengths_are_sent_together(users, tmp_path):
    """Gradients are sums, so those of the users alone must add up."""
    gateway = MetaGateway(tmp_path)
    answers = {}
    predict = gateway.backend.predict

    async def note(model, version, signature, inputs):
        outputs = await predict(model, version, signature, inputs)
        if signature == "meta_gradient":
            answers.setdefault(len(outputs["loss"]), []).append(
                (inputs, outputs)
            )
        return outputs

    gateway.backend.predict = note
    tags = ([], ["drama"], ["war", "comedy", "drama"])

    async def run():
        await gateway.registry.refresh()
        model = gateway.registry.resolve()
        for number, user in enumerate(users):
            values = pb.StringList(values=tags[number % 3])
            told = encode_told({"tags": pb.FeatureValues(strings=values)})
            events = user.events(range(20))
            gateway.know(user.user_id)
            step = gateway.stage.observe(
                model, user.user_id, told, events[:10], 10, events[10:]
            )
            if step is not None:
                await step

    asyncio.run(run())
    (inputs, outputs), *_ = answers[CONFIG.tasks_per_update]
    assert [d.size for d in inputs["tags"].tensor_shape.dim] == [5, 3]
    assert np.isfinite(outputs["loss"]).all()
