"""A clock that goes on when it is told to."""


class Clock:
    """Tells a time in seconds.

    Attributes:
        now: What it tells.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
