"""The RPCs that a gateway answers, one module per group of them.

A method takes the parsed request and the `Call`, and returns the answer or
raises one of our errors; `handler.py` makes a gRPC handler of it.
"""
