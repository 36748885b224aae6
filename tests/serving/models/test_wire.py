"""Our few lines of the wire format against protobuf's own."""

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.wrappers_pb2 import UInt64Value
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.models import wire
from serving.protos import recommender_pb2 as pb
from serving.protos import tf_serving_pb2


@settings(deadline=None)
@given(st.integers(1, 2**64 - 1))
def test_varint_is_protobufs(number):
    data = UInt64Value(value=number).SerializeToString()
    assert b"\x08" + wire.varint(number) == data


@settings(deadline=None)
@given(st.integers(0, 300))
def test_field_of_any_length_is_protobufs(size):
    data = b"x" * size
    expected = tf_serving_pb2.TensorProto(string_val=[data])
    assert wire.field(8, data) == expected.SerializeToString()


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1))
def test_joined_fields_are_a_list(texts):
    data = b"".join(wire.field(3, text.encode()) for text in texts)
    found = FileDescriptorProto.FromString(data)
    assert list(found.dependency) == texts


@settings(deadline=None)
@given(st.text(), st.text())
def test_entry_is_a_maps(key, value):
    expected = pb.GetStatusResponse()
    status = expected.models.add()
    status.user_features[key] = value
    data = wire.entry(6, key, value.encode())
    assert pb.ModelStatus.FromString(data).user_features[key] == value
    assert data == status.SerializeToString()
