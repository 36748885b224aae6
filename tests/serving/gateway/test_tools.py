"""What people and machines look at a running gateway with."""

import json
import urllib.request

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.client import RecommenderClient
from serving.experiments.joining import read_lines
from serving.ports import free_port
from serving.protos import recommender_pb2 as pb


def reflect(channel, **question):
    request = reflection_pb2.ServerReflectionRequest(**question)
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    return answer


def test_reflection_lists_and_describes_the_services(gateway):
    with grpc.insecure_channel(gateway.target) as channel:
        listed = reflect(channel, list_services="")
        names = {s.name for s in listed.list_services_response.service}
        assert names >= {
            "adaptower.v1.Recommender",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        described = reflect(
            channel, file_containing_symbol="adaptower.v1.Recommender"
        ).file_descriptor_response
    assert pb.DESCRIPTOR.serialized_pb in described.file_descriptor_proto


def test_flags_turn_metrics_and_json_lines_on(run_gateway):
    port = free_port()
    flags = [f"--metrics-port={port}", "--log-format=json", "--log-requests"]
    with run_gateway(*flags) as gateway:
        with RecommenderClient(gateway.target) as client:
            client.rank("u", ["000", "001"])
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        log = gateway.log_path.read_text()
    assert 'adaptower_requests_total{code="OK",method="Rank"} 1.0' in text
    (line,) = [
        values
        for values in map(json.loads, log.splitlines())
        if values.get("method") == "Rank"
    ]
    assert (line["code"], line["model"]) == ("OK", "adaptower")
    assert line["request_id"]


def test_flag_tries_experiments_and_notes_what_users_saw(run_gateway, tmp_path):
    path = tmp_path / "experiments.yaml"
    arms = [{"name": "control"}, {"name": "off", "adaptation": "off"}]
    experiment = {"name": "x", "arms": arms}
    path.write_text(json.dumps({"log": "seen", "experiments": [experiment]}))
    with (
        run_gateway(f"--experiments={path}") as gateway,
        RecommenderClient(gateway.target) as client,
    ):
        answer = client.rank("u", ["000", "001"])
    (line,) = read_lines(tmp_path / "seen")
    assert f"{line['experiment']}/{line['arm']}" == answer.provenance.arm
    assert sorted(line["items"]) == ["000", "001"]
