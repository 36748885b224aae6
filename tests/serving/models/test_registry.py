import asyncio

import numpy as np
import pytest

from serving.errors import (
    BackendError,
    BackendRefusalError,
    BackendUnavailableError,
    UnknownModelError,
)
from serving.models.manifests import Manifests
from serving.models.registry import ModelRegistry
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.patience import PATIENT_SECONDS
from tests.helpers.toy_model import ToyOracle, ToyParameters

ORACLES = {version: ToyOracle.from_seed(version) for version in (1, 2)}
BROKEN = {
    "rank": ("score", "rank gives no score of shape"),
    "embed": ("user_vector", "embed gives no user_vector of shape"),
    "recommend": ("score", "recommend gives no score of shape"),
    "adapt": ("adaptive_weights", "adapt gives no adaptive_weights of shape"),
}


@pytest.fixture
def base_path(tmp_path):
    for version in (1, 2):
        parameters = ToyParameters.from_seed(version)
        parameters.manifest().save(tmp_path / str(version))
    return tmp_path


@pytest.fixture
def backend():
    return OracleBackend({})


@pytest.fixture
def registry(base_path, backend):
    return ModelRegistry(backend, {"adaptower": base_path}, "adaptower")


def refresh(registry):
    asyncio.run(registry.refresh())
    return registry.resolve()


def poll(registry):
    asyncio.run(registry.refresh_patiently())
    return registry.resolve()


def test_model_without_a_version_is_unavailable(registry):
    assert not registry.ready
    with pytest.raises(BackendUnavailableError, match="no version ready"):
        refresh(registry)


def test_version_and_manifest_switch_together(registry, backend):
    backend.versions = {1: ORACLES[1]}
    assert refresh(registry).version == 1
    backend.versions = ORACLES
    served = refresh(registry)
    assert served.version == 2
    fingerprint = ToyParameters.from_seed(2).fingerprint
    assert served.manifest.fingerprint == fingerprint
    backend.versions = {1: ORACLES[1]}
    assert refresh(registry).version == 1


def test_version_with_an_unreadable_manifest_is_passed_over(
    registry, backend, base_path
):
    manifest = base_path / "2/assets.extra/adaptive_manifest.json"
    manifest.write_text("{}")
    backend.versions = ORACLES
    assert refresh(registry).version == 1


@pytest.mark.parametrize("signature", BROKEN)
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda values: np.full_like(values, np.nan), "not finite"),
        (lambda values: np.repeat(values, 2, axis=1), "of shape"),
        (None, "gives no"),
    ],
    ids=["nan", "of another shape", "missing"],
)
def test_version_that_does_not_answer_as_it_should_is_passed_over(
    registry, backend, signature, broken, reason, caplog
):
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    predict = backend.predict

    async def answer(model, version, asked, inputs):
        outputs = await predict(model, version, asked, inputs)
        if version == 2 and asked == signature:
            name, _ = BROKEN[signature]
            values = outputs.pop(name)
            if broken is not None:
                outputs[name] = broken(values)
        return outputs

    backend.predict = answer
    backend.versions = ORACLES
    assert refresh(registry).version == 1
    assert reason in registry.trouble("adaptower")
    refresh(registry)
    assert len(caplog.records) == 1
    # A model server that has mended it, or a newer push, is followed.
    backend.predict = predict
    assert refresh(registry).version == 2
    assert registry.trouble("adaptower") == ""


def test_version_is_prepared_before_anybody_is_answered_by_it(
    registry, backend
):
    seen = []

    async def prepare(model):
        current = registry.served("adaptower")
        seen.append((model.version, current and current.version))

    registry.before_switch.add(prepare)
    for versions in ({1: ORACLES[1]}, ORACLES, ORACLES):
        backend.versions = versions
        poll(registry)
    # Nobody is answered before the first version is there.
    assert seen == [(2, 1)]


def test_version_that_can_not_be_prepared_serves_all_the_same(
    registry, backend, caplog
):
    async def prepare(model):
        raise MemoryError("no room")

    registry.before_switch.add(prepare)
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    backend.versions = ORACLES
    assert poll(registry).version == 2
    assert "version 2 unprepared" in caplog.text


def test_nobody_waits_for_preparations_while_no_version_answers(
    registry, backend
):
    seen = []

    async def prepare(model):
        seen.append(model.version)

    registry.before_switch.add(prepare)
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    # As of a model server that keeps one version only.
    backend.versions = {2: ORACLES[2]}
    assert poll(registry).version == 2
    assert seen == []


async def begin_to_prepare(registry, backend, ended):
    """Looks once with the second version there, and stops at preparations.

    Args:
        registry: Knows nothing yet.
        backend: Of the registry.
        ended: Gets the version whose preparations have ended.

    Returns:
        The look, which goes on for ever unless something ends it.
    """
    preparing = asyncio.Event()

    async def prepare(model):
        preparing.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(model.version)

    backend.versions = {1: ORACLES[1]}
    await registry.refresh()
    registry.before_switch.add(prepare)
    backend.versions = ORACLES
    look = asyncio.create_task(registry.refresh_patiently())
    await preparing.wait()
    assert registry.resolve().version == 1
    return look


def test_preparations_end_when_somebody_needs_the_new_version(
    registry, backend
):
    ended = []

    async def run():
        look = await begin_to_prepare(registry, backend, ended)
        # Whose version is gone asks for another look.
        await registry.refresh()
        assert registry.resolve().version == 2
        await look

    asyncio.run(asyncio.wait_for(run(), PATIENT_SECONDS))
    assert ended == [2]


def test_who_needs_the_new_version_waits_for_no_preparations(registry, backend):
    seen = []

    async def prepare(model):
        seen.append(model.version)
        await asyncio.Event().wait()

    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    registry.before_switch.add(prepare)
    backend.versions = ORACLES

    async def run():
        await asyncio.wait_for(registry.refresh(), PATIENT_SECONDS)

    asyncio.run(run())
    assert registry.resolve().version == 2
    assert seen == []


def test_nothing_is_prepared_if_somebody_needs_a_version_before_that_begins(
    registry, backend
):
    answer, seen = asyncio.Event(), []
    look = backend.available_versions

    async def held_up(model):
        await answer.wait()
        return await look(model)

    async def prepare(model):
        seen.append(model.version)
        await asyncio.Event().wait()

    async def run():
        poll = asyncio.create_task(registry.refresh_patiently())
        await asyncio.sleep(0)
        hurried = asyncio.create_task(registry.refresh())
        await asyncio.sleep(0)
        answer.set()
        await asyncio.gather(poll, hurried)

    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    registry.before_switch.add(prepare)
    backend.versions = ORACLES
    backend.available_versions = held_up
    asyncio.run(asyncio.wait_for(run(), PATIENT_SECONDS))
    assert registry.resolve().version == 2
    assert seen == []


def test_preparations_end_with_the_gateway(registry, backend):
    ended = []

    async def run():
        look = await begin_to_prepare(registry, backend, ended)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        assert registry.resolve().version == 1

    asyncio.run(asyncio.wait_for(run(), PATIENT_SECONDS))
    assert ended == [2]


def tells_nothing_of_what_is_known(vectors):
    del vectors["item_known"]


def gives_other_scores(vectors):
    vectors["user_vector"] = vectors["user_vector"] + 0.01


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (tells_nothing_of_what_is_known, "embed gives no item_known"),
        (gives_other_scores, "other scores than rank"),
    ],
)
def test_version_whose_vectors_are_not_good_to_score_by_is_passed_over(
    registry, backend, spoil, words
):
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    predict = backend.predict

    async def answer(model, version, asked, inputs):
        outputs = await predict(model, version, asked, inputs)
        if version == 2 and asked == "embed":
            spoil(outputs)
        return outputs

    backend.predict = answer
    backend.versions = ORACLES
    assert refresh(registry).version == 1
    assert words in registry.trouble("adaptower")


@pytest.mark.parametrize("error", [BackendRefusalError, BackendError])
def test_version_that_refuses_to_answer_is_passed_over(
    registry, backend, error
):
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    predict = backend.predict

    async def answer(model, version, asked, inputs):
        if version == 2 and asked == "adapt":
            raise error("no such input")
        return await predict(model, version, asked, inputs)

    backend.predict = answer
    backend.versions = ORACLES
    assert refresh(registry).version == 1


def test_unreachable_model_server_changes_nothing(registry, backend):
    backend.versions = {1: ORACLES[1]}
    refresh(registry)

    async def fail(model):
        raise BackendUnavailableError("gone")

    backend.available_versions = fail
    assert refresh(registry).version == 1


def test_unknown_model_error_names_those_there_are(registry):
    with pytest.raises(UnknownModelError, match="served are: adaptower"):
        registry.resolve("nobody")


def version(registry, number):
    return asyncio.run(registry.version("adaptower", number))


def test_version_beside_the_current_is_read_once(registry, backend, base_path):
    backend.versions = ORACLES
    refresh(registry)
    old = version(registry, 1)
    assert old.version == 1
    fingerprint = ToyParameters.from_seed(1).fingerprint
    assert old.manifest.fingerprint == fingerprint
    (base_path / "1/assets.extra/adaptive_manifest.json").unlink()
    assert version(registry, 1) is old


def test_version_that_was_the_current_one_is_not_read_again(
    registry, backend, base_path
):
    backend.versions = {1: ORACLES[1]}
    first = refresh(registry)
    backend.versions = ORACLES
    assert refresh(registry).version == 2
    (base_path / "1/assets.extra/adaptive_manifest.json").unlink()
    assert version(registry, 1) is first
    # What the model server has dropped is forgotten.
    backend.versions = {2: ORACLES[2]}
    refresh(registry)
    with pytest.raises(UnknownModelError):
        version(registry, 1)


def test_version_that_was_not_in_the_last_status_touches_no_disk(
    base_path, backend
):
    class Untouched(Manifests):
        async def read_or_remember(self, path):
            raise AssertionError(path)

    registry = ModelRegistry(
        backend,
        {"adaptower": base_path},
        "adaptower",
        manifests=Untouched(),
    )
    backend.versions = {2: ORACLES[2]}
    refresh(registry)
    # It is there on disk.
    with pytest.raises(UnknownModelError, match="loaded are: 2"):
        version(registry, 1)
    with pytest.raises(UnknownModelError, match="loaded are: none"):
        asyncio.run(registry.version("nobody", 1))
    assert version(registry, 2).version == 2


def test_a_look_that_began_too_early_does_not_bring_back_what_is_gone(
    registry, backend
):
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    predict, looks = backend.predict, []

    async def answer(model, version, asked, inputs):
        if asked == "rank":
            looks.append(version)
        outputs = await predict(model, version, asked, inputs)
        if version == 2 and asked == "adapt":
            # It was fit, but is gone before anybody can be told.
            backend.versions = {1: ORACLES[1]}
        return outputs

    backend.predict = answer

    async def look():
        backend.versions = {2: ORACLES[2]}
        first = asyncio.create_task(registry.refresh())
        await asyncio.sleep(0)
        await asyncio.gather(first, *(registry.refresh() for _ in range(9)))

    asyncio.run(look())
    assert registry.resolve().version == 1
    # Nine asked while one looked: they shared a look.
    assert looks == [2, 1]


def test_caller_who_hangs_up_ends_no_look_that_others_share(registry, backend):
    backend.versions = {1: ORACLES[1]}
    refresh(registry)
    answers = [asyncio.Event() for _ in range(3)]
    look = backend.available_versions

    async def held_up(model):
        found = await look(model)
        await answers.pop(0).wait()
        return found

    async def run():
        backend.available_versions = held_up
        polled, hangs_up, _ = answers
        poll = asyncio.create_task(registry.refresh())
        await asyncio.sleep(0)
        # The model server switches; two requests notice, and ask.
        backend.versions = {2: ORACLES[2]}
        first = asyncio.create_task(registry.refresh())
        second = asyncio.create_task(registry.refresh())
        await asyncio.sleep(0)
        polled.set()
        await poll
        while hangs_up in answers:
            await asyncio.sleep(0)
        first.cancel()
        for answer in answers:
            answer.set()
        await asyncio.wait((first, second))

    asyncio.run(run())
    assert registry.resolve().version == 2
