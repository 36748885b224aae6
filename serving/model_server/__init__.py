"""A model server for machines without `tensorflow_model_server`.

It speaks the part of TF Serving's gRPC API that the gateway uses, so either
serves the same SavedModels. A process of its own, and the only place on the
serving side that may import TensorFlow:

    python -m serving.model_server --port 8500 --model name=base_path
"""
