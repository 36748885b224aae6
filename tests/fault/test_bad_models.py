"""Models that must not serve: the gates refuse them, and so do the servers.

Each is pushed twice: through the gates, which bless none of them, and past
the gates, straight into the base path of servers under load.
"""

import dataclasses
import shutil
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components.infra_validator.executor import Executor as InfraValidator
from components.versioned_pusher.executor import Executor as VersionedPusher
from components.versioned_pusher.versions import listed_versions, push_version
from serving.client import RecommenderClient
from serving.contract.features import CATEGORICAL, Feature
from serving.contract.manifest import MANIFEST_FILE
from serving.launch import start_gateway, start_model_server
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import GET_MODEL_STATUS
from tests.fault.test_rollovers import ITEMS, PoissonLoad
from tests.helpers.cold_examples import make_users, write_examples
from tests.helpers.patience import PATIENT_SECONDS, wait_until
from tests.helpers.toy_model import ToyOracle, ToyParameters, export_toy
from tests.helpers.toy_module import build_toy_module

pytestmark = pytest.mark.fault

NAME = "adaptower"
SOUND = ToyParameters.from_seed(1)
OTHER = ToyParameters.from_seed(2)


def export(folder, parameters):
    module, signatures = build_toy_module(parameters)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    parameters.manifest().save(folder)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_graph(folder):
    export(folder, OTHER)
    cut(folder / "saved_model.pb")


def cut_variables(folder):
    export(folder, OTHER)
    cut(folder / "variables" / "variables.data-00000-of-00001")


def no_manifest(folder):
    export(folder, OTHER)
    (folder / MANIFEST_FILE).unlink()


def other_signatures(folder):
    """The manifest tells another feature than the graph takes."""
    export(folder, OTHER)
    manifest = OTHER.manifest()
    features = (*manifest.user_features[1:], Feature("country", CATEGORICAL))
    dataclasses.replace(manifest, user_features=features).save(folder)


def other_partition(folder):
    """The manifest tells fewer adaptive values than the graph takes."""
    export(folder, OTHER)
    manifest = OTHER.manifest()
    dataclasses.replace(
        manifest,
        parameters=manifest.parameters[:1],
        meta_init=manifest.meta_init[:-1],
        log_inner_lr=(),
    ).save(folder)


def nan(folder):
    export(
        folder,
        dataclasses.replace(
            OTHER, item_vectors=np.full_like(OTHER.item_vectors, np.nan)
        ),
    )


BAD = (
    cut_graph,
    cut_variables,
    no_manifest,
    other_signatures,
    other_partition,
    nan,
)
by_name = pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """A model server and a gateway that serve version 1; its base path."""
    folder = tmp_path_factory.mktemp("servers")
    base_path = folder / NAME
    export_toy(base_path, version=1, seed=1)
    models = {NAME: base_path}
    with (
        start_model_server(
            models, log_path=folder / "model_server.log", poll_seconds=0.1
        ) as model_server,
        start_gateway(
            model_server.target,
            models,
            folder / "store",
            log_path=folder / "gateway.log",
            flags=[
                "--poll-seconds=0.1",
                f"--backend-timeout-seconds={PATIENT_SECONDS}",
            ],
        ) as gateway,
    ):
        yield base_path, model_server, gateway


def states(model_server):
    """What the model server says of the versions it knows."""
    request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=NAME))
    with grpc.insecure_channel(model_server.target) as channel:
        response = channel.unary_unary(
            GET_MODEL_STATUS,
            pb.GetModelStatusRequest.SerializeToString,
            pb.GetModelStatusResponse.FromString,
        )(request, timeout=60)
    return {s.version: s.state for s in response.model_version_status}


@by_name
def test_the_old_version_keeps_serving_when_one_is_pushed_past_the_gates(
    servers, tmp_path, make
):
    base_path, model_server, gateway = servers
    make(tmp_path / "bad")
    with (
        RecommenderClient(gateway.target, PATIENT_SECONDS) as client,
        PoissonLoad(client) as load,
    ):
        pushed = push_version(tmp_path / "bad", base_path)
        wait_until(
            lambda: (
                states(model_server).get(pushed)
                in (pb.ModelVersionStatus.AVAILABLE, pb.ModelVersionStatus.END)
            )
        )
        if states(model_server)[pushed] == pb.ModelVersionStatus.AVAILABLE:
            wait_until(
                lambda: str(pushed) in client.get_status().models[0].trouble
            )
        # The gateway looks at it again and again.
        time.sleep(0.5)
        shutil.rmtree(base_path / str(pushed))
        wait_until(
            lambda: states(model_server)[pushed] == pb.ModelVersionStatus.END
        )
    assert load.failures == []
    oracle = ToyOracle(SOUND)
    for answer in load.answers:
        assert answer.version == 1
        np.testing.assert_allclose(
            answer.scores, oracle.rank({}, ITEMS), atol=1e-5
        )


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(
        make_users(num_users=5, num_events=12), tmp_path_factory.mktemp("ex")
    )


@pytest.mark.slow
@by_name
def test_the_gates_bless_none_of_them_and_nothing_is_pushed(
    tmp_path, examples, make
):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    make(tmp_path / "model" / "Format-Serving")
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(tmp_path / "blessing")
    (tmp_path / "blessing").mkdir()
    InfraValidator().Do(
        {"model": [model], "examples": [examples]},
        {"blessing": [blessing]},
        {
            "model_name": NAME,
            "deadline_seconds": 60.0,
            "max_model_bytes": 1 << 20,
            "num_users": 4,
            "recommend_items": 3,
        },
    )
    assert (tmp_path / "blessing" / "INFRA_NOT_BLESSED").read_text()
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    VersionedPusher().Do(
        {"model": [model], "infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_dir": str(tmp_path / "base"), "keep_versions": 2},
    )
    assert pushed.get_int_custom_property("pushed") == 0
    assert listed_versions(tmp_path / "base") == []
