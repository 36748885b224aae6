"""The regimes in which the cold users' stream is replayed, and judged.

- `joint`: Rank on the model `joint`; nothing is ever submitted.
- `offline`: the first support set is submitted, then each window is ranked.
- `online`: as `offline`, and each window is submitted after it was ranked.
"""

JOINT = "joint"
OFFLINE = "offline"
ONLINE = "online"
REGIMES = (JOINT, OFFLINE, ONLINE)
