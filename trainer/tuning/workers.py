"""A search by several processes of this machine.

Keras Tuner's own distributed mode: the oracle is a gRPC server in a chief,
here a thread of this process, and each worker asks it for trials. The
variables by which processes find each other are Keras Tuner's too, so that
workers on other machines can be started by hand (docs/tuning.md).
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

from trainer.errors import TuningError
from trainer.progress import RESULTS
from trainer.tuning.meta_tuner import MetaTuner, best_trial
from trainer.tuning.request import SearchRequest
from trainer.tuning.trials import TrialResult, read_trials

_HOST = "127.0.0.1"
_SECONDS_BETWEEN_LOOKS = 0.5
_LOG_TAIL = 500
_PR_SET_PDEATHSIG = 1
# Looked up here: a child between fork and exec should not load anything.
_LIBC = ctypes.CDLL(None)


def search(request: SearchRequest, workers: int = 1) -> TrialResult:
    """Searches, and goes on with a search that was killed.

    Args:
        request: What is searched.
        workers: Processes that run trials; this one itself if 1.

    Returns:
        The best trial.

    Raises:
        TuningError: No trial came to its end.
        EpisodeDataError: The data can't be trained on or judged by.
    """
    if workers == 1:
        MetaTuner(request).search()
    else:
        _search_distributed(request, workers)
    return best_trial(request)


def _search_distributed(request: SearchRequest, workers: int) -> None:
    request.folder.mkdir(parents=True, exist_ok=True)
    (request.folder / "request.json").write_text(request.to_json())
    address = {
        "KERASTUNER_ORACLE_IP": _HOST,
        "KERASTUNER_ORACLE_PORT": str(_free_port()),
    }
    with _environment({**address, "KERASTUNER_TUNER_ID": "chief"}):
        # It goes on serving for a while after the last trial; nobody waits.
        chief = threading.Thread(
            target=MetaTuner(request).search, daemon=True, name="chief"
        )
        chief.start()
        with contextlib.ExitStack() as stack:
            started = [
                stack.enter_context(_worker(request, address, number))
                for number in range(1, workers + 1)
            ]
            _wait(request, started)


def _wait(
    request: SearchRequest, started: list[subprocess.Popen[bytes]]
) -> None:
    """Reports trials as they end, until all workers have."""
    reported = {trial.trial_id for trial in read_trials(request.folder)}
    running = True
    while running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in started:
                process.wait(_SECONDS_BETWEEN_LOOKS)
        running = any(process.poll() is None for process in started)
        for trial in read_trials(request.folder):
            if trial.trial_id not in reported:
                reported.add(trial.trial_id)
                RESULTS.info("%s", trial)
    failed = [p for p in started if p.returncode]
    if len(failed) == len(started):
        log = _log_path(request, 1).read_text(errors="replace")
        raise TuningError(
            f"All {len(started)} workers failed. {_log_path(request, 1)} "
            f"ends with: {log[-_LOG_TAIL:].strip()}"
        )
    if failed:
        RESULTS.info(
            "%d of %d workers failed; their logs are in %s. The trials they "
            "were at are run when the search is gone on with.",
            len(failed),
            len(started),
            request.folder,
        )


@contextlib.contextmanager
def _worker(
    request: SearchRequest, address: Mapping[str, str], number: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for as long as the context lasts."""
    with _log_path(request, number).open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "trainer.tuning.worker",
                str(request.folder / "request.json"),
            ],
            env={
                **os.environ,
                **address,
                "KERASTUNER_TUNER_ID": f"worker-{number}",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _end_with_parent() -> None:
    """Makes a worker end with this process, even if that is killed.

    It would ask a chief that is gone for another hour.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _log_path(request: SearchRequest, number: int) -> pathlib.Path:
    return request.folder / f"worker-{number}.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
