"""Experiments on live users: who is in which arm, and what came of it.

`config` reads what is tried, `assignment` gives each user an arm, `routing`
is what the gateway asks, `shadow` asks a second model behind the scenes,
`exposure_log` writes down what was shown and what users made of it; `joining`
and `figures` make the report of `python -m serving.experiments`.
"""
