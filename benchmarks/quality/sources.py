"""Which sources a result was made by.

An edit of the trainer makes another result of the same hyper-parameters. So
each one notes a digest of all that its training imports, and what was made by
other sources is made anew, or at least told.
"""

import functools

from pipeline.fingerprint import OUR_PACKAGES, code_fingerprint

_ROOT = "benchmarks.quality.trainings"
# The key of the digest, wherever a result is noted. Results from before there
# was one have none, and count as made by any sources.
CODE = "code"


@functools.lru_cache
def current_code() -> str:
    """Digests the trainings' sources, once: those that this process runs."""
    return code_fingerprint(_ROOT, packages=(*OUR_PACKAGES, "benchmarks"))


def is_stale(code: str | None) -> bool:
    """Whether a result is known to be made by other sources."""
    return code not in (None, current_code())
