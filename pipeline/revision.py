"""Which code made a result."""

import pathlib
import subprocess


def code_revision() -> str:
    """Commit of the checkout that this code is from, `+` if changed.

    Returns:
        `unknown` outside of a git checkout.
    """
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"
