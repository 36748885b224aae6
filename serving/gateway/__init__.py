"""The gateway: what clients talk to, in front of a model server.

It knows each user's adaptive weights, sends them along as an input of the
Predict request, and lets the model server's `adapt` signature learn new ones
from feedback. Free of TensorFlow:

    python -m serving.gateway --backend localhost:8500 --model name=base_path
"""
