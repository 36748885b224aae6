"""Experiments on live users: who is in which arm, and what came of it.

`config` reads what is tried, `assignment` gives each user an arm, `treatments`
says what that means for the user, `exposure_log` writes down what was shown
and what users made of it, by a `line_writer` that nobody waits for, `purging`
keeps that small; `joining`, `figures` and `report` make the report of `python
-m serving.experiments`. The gateway's side is `serving.gateway.trials` and
`serving.gateway.shadows`.
"""
