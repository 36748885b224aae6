from serving.protos import recommender_pb2 as pb
from serving.security import scopes


def test_every_method_of_ours_has_a_scope():
    service = pb.DESCRIPTOR.services_by_name["Recommender"]
    methods = {
        f"/{service.full_name}/{method.name}" for method in service.methods
    }
    assert methods <= scopes._SCOPE_OF_METHOD.keys()


def test_every_scope_is_one_that_tokens_can_have():
    assert {*scopes._SCOPE_OF_METHOD.values()} <= {*scopes.SCOPES}
