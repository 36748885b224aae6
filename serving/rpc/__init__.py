"""gRPC servers that spend less on each call than grpcio's own.

`grpc.server` passes every call through several threads, `grpc.aio` through
several tasks and wake-ups, which takes longer than the graph of a recommender
does. Both are made of `grpc._cython.cygrpc`, and so are these, in a simpler
way: a thread takes all the calls that are ready from gRPC's queue and hands
them on together, to a function (`CallServer`) or to coroutines
(`AsyncServer`, which takes the place of `grpc.aio.server`). That layer is
private to grpcio; what is used of it is the same in 1.48 and in 1.85.
"""
