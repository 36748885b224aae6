"""How quick the serving side is, and what it costs.

    python -m benchmarks.serving [--run runs/movielens-1m] [--figures rank ...]

Real servers, real gRPC, load drivers in processes of their own, everything
on this machine's cores. Absolute numbers are this machine's on that day; what
counts are ratios of things measured in turns within one run. Prints a table
with a floor and a goal for each figure, and writes
benchmarks/results/serving.json.
"""
