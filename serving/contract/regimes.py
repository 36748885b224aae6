"""The regimes that a stream of cold users is judged under.

- `joint`: nothing is learned of a user; features alone score a window.
- `offline`: the first support set is learned from, then nothing more.
- `online`: as `offline`, and from each window after it was scored.
"""

JOINT = "joint"
OFFLINE = "offline"
ONLINE = "online"
REGIMES = (JOINT, OFFLINE, ONLINE)
