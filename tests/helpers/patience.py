"""How long a test waits for what should come at once.

A busy machine may stop any process for seconds, which is no failure. Tests of
deadlines set their own.
"""

PATIENT_SECONDS = 60.0
