"""Models as all that serves and learns sees them.

Which version of a model answers (`registry`, `manifests`, `fitness`,
`pinned`), what is known of it (`served_model`), how it is asked (`backend`,
`templates`, `wire`), what a request may tell it of a user (`features`), and
which weights it is asked with (`ladder`).
"""
