"""Replays the cold users' stream through the gateway, in three regimes.

Everything goes over gRPC, as a client's requests do: what is measured is the
served system, not the model. All regimes see the same windows, each under
user ids of its own, so that what one regime learns never reaches another.

`online` comes last, when the others are through: what streams in then moves
the meta-initialization too, from which users of `offline` must not start.

One client takes the steps in the order of time, and its figures are exact.
With several clients at once users come in no certain order, as in service.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.cold_stream import ColdStream
from pipeline.errors import ReplayInterrupted
from pipeline.replay_clients import InOrder, walk
from pipeline.replay_session import Client, Session
from serving.contract import timeline
from serving.contract.intervals import Rows
from serving.contract.labels import liked
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES

# Each stands for a walk through the stream.
_WALKS = ((JOINT, OFFLINE), (ONLINE,))

# Which regimes learn at a step.
_LEARNING = {
    timeline.FIRST_SUPPORT: frozenset((OFFLINE, ONLINE)),
    timeline.LEARN: frozenset((ONLINE,)),
}

# Logits of a window by regime.
_Answers = dict[str, NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class ReplayResult:
    """Row-level scores of the served system, and what serving cost.

    Attributes:
        rows: The judged rows: user (index of arrival), window, label.
        scores: Logits by regime, shape [rows].
        user_ids: Id of each user, in the order of arrival.
        item_ids: Item of each row, shape [rows].
        rank_ms: Latency of each Rank call in milliseconds, shape [calls].
        feedback_ms: The same for SubmitFeedback.
        rank_rows: Candidates in each Rank call, shape [calls].
        degraded: Answers that the gateway said it gave without the user's
            own weights.
        model_versions: Versions that answered, in order of appearance.
        seconds: How long the replay took.
    """

    rows: Rows
    scores: Mapping[str, NDArray[np.float64]]
    user_ids: tuple[str, ...]
    item_ids: NDArray[np.object_]
    rank_ms: NDArray[np.float64]
    feedback_ms: NDArray[np.float64]
    rank_rows: NDArray[np.int64]
    degraded: int
    model_versions: tuple[str, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the replay is, handed to `on_progress` after each window.

    Attributes:
        done: Windows ranked so far, over all walks through the stream.
        total: Windows to rank.
        labels: Labels of the rows of each window.
        scores: Scores of the same windows by regime; of fewer of them, or
            none, for a regime that is not through.
    """

    done: int
    total: int
    labels: Sequence[NDArray[np.float32]]
    scores: Mapping[str, Sequence[NDArray[np.float64]]]


def replay(
    client: Client,
    stream: ColdStream,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    session: Session | None = None,
    clients: int = 1,
) -> ReplayResult:
    """Replays the protocol's stream through the gateway.

    Args:
        client: Talks to the gateway.
        stream: The cold users.
        on_progress: Called after each window.
        session: Where calls are made and counted; a new one by default.
        clients: How many make calls at once, each for users of its own.

    Returns:
        Scores of every judged row in every regime, with latencies.

    Raises:
        ReplayInterrupted: Ctrl-C.
        ReplayError: A call failed, or its answer can't be judged.
    """
    session = session or Session(client)
    total = len(_WALKS) * stream.num_windows
    done = 0
    judged: list[tuple[int, int, NDArray[np.int64]]] = []
    labels: list[NDArray[np.float32]] = []
    scores: dict[str, list[NDArray[np.float64]]] = {r: [] for r in REGIMES}

    def note(window: tuple[timeline.Step, _Answers]) -> None:
        nonlocal done
        step, answers = window
        if not answers:
            return
        for regime, answer in answers.items():
            scores[regime].append(answer)
        if _WALKS[0][0] in answers:
            judged.append((step.arrival, step.window, step.rows))
            labels.append(stream.users[step.arrival].labels[step.rows])
        done += 1
        on_progress(Progress(done, total, labels, scores))

    def walk_through(regimes: Sequence[str]) -> None:
        noted = InOrder(note)

        def take(number: int, step: timeline.Step) -> None:
            noted.put(number, (step, _answers(session, stream, regimes, step)))

        walk(timeline.timeline(stream.users), clients, take)

    start = time.monotonic()
    try:
        for regimes in _WALKS:
            walk_through(regimes)
    except KeyboardInterrupt:
        raise ReplayInterrupted(
            f"Interrupted after {done} of {total} windows; nothing "
            "was written. The pushed model is untouched: `adaptower replay` "
            "starts the replay again, with fresh users."
        ) from None
    sizes = [len(rows) for _, _, rows in judged]
    users, windows = np.array([j[:2] for j in judged]).T
    return ReplayResult(
        rows=Rows(
            user=np.repeat(users, sizes),
            window=np.repeat(windows, sizes),
            label=liked(np.concatenate(labels)).astype(np.float32),
        ),
        scores={r: np.concatenate(parts) for r, parts in scores.items()},
        user_ids=tuple(user.user_id for user in stream.users),
        item_ids=np.concatenate(
            [stream.users[user].item_ids[rows] for user, _, rows in judged]
        ),
        rank_ms=np.array(session.rank_ms),
        feedback_ms=np.array(session.feedback_ms),
        rank_rows=np.array(session.rank_rows),
        degraded=session.degraded,
        model_versions=tuple(session.model_versions),
        seconds=time.monotonic() - start,
    )


def _answers(
    session: Session,
    stream: ColdStream,
    regimes: Sequence[str],
    step: timeline.Step,
) -> _Answers:
    """Takes a step in some regimes; returns what was ranked, if it was."""
    user = stream.users[step.arrival]
    if step.kind != timeline.RANK:
        for regime in _LEARNING[step.kind].intersection(regimes):
            session.submit(regime, user, step.rows)
        return {}
    candidates = user.item_ids[step.rows].tolist()
    return {
        regime: session.rank(regime, user, candidates) for regime in regimes
    }
