"""Messages on the wire, and the code generated from them.

`recommender.proto` is what clients of the gateway speak, `tf_serving.proto` a
private copy of the part of TF Serving's API that we need.
`scripts/generate_protos.sh` writes the `*_pb2*` modules.
"""
