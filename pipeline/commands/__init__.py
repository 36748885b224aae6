"""The commands of `adaptower`, a module each.

Each has `HELP` (one line), `EPILOG` (examples), `add_arguments(parser)` and
`run(args)`, which returns the exit code. Their heavy imports are inside
`run`, so that `--help` answers at once.
"""
