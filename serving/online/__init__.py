"""The online stage: learns from the event log while users act.

Each user's weights (`stage` is where to begin), what new users start from
(`meta_stage`), and users met under another version (`stragglers`). `parts`
puts them together, for a gateway or for a worker of its own (`work`).
"""
