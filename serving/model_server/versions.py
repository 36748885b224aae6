"""Which versions of a model are loaded, and how one follows the other.

TF Serving's rules: the versions are the numbered folders of the base path;
the newest two are wanted; a version is dropped only when a wanted one is
available, so that a bad push never leaves a model without an answer.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from serving.errors import UnknownModelError
from serving.protos import tf_serving_pb2 as pb

KEPT_VERSIONS = 2
FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 300.0

_log = logging.getLogger(__name__)
_State = pb.ModelVersionStatus

Model = TypeVar("Model")


@dataclasses.dataclass(frozen=True)
class _Failure:
    """A version that did not load: when to try again, how long to wait."""

    retry_at: float
    wait_seconds: float


class ModelVersions(Generic[Model]):
    """The versions of one model.

    One thread calls `poll`; any thread may call the others. They read
    dictionaries that are replaced, never changed.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        load: Callable[[Path], Model],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets the model up; nothing is loaded before the first `poll`.

        Args:
            name: Name in requests.
            base_path: Folder of the numbered version folders.
            load: Loads a version folder; whatever it raises is a bad version.
            clock: Seconds, for the retries.
        """
        self.name = name
        self._base_path = base_path
        self._load = load
        self._clock = clock
        self._loaded: Mapping[int, Model] = {}
        self._states: Mapping[int, pb.ModelVersionStatus] = {}
        self._failures: dict[int, _Failure] = {}

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that can answer, oldest first."""
        return tuple(sorted(self._loaded))

    def find(self, version: int | None = None) -> tuple[int, Model]:
        """Returns a version's number and model; the newest by default.

        Raises:
            UnknownModelError: It is not loaded.
        """
        loaded = self._loaded
        if version is None and loaded:
            version = max(loaded)
        if version is None or version not in loaded:
            which = "Latest" if version is None else f"Specific({version})"
            raise UnknownModelError(
                f"Servable not found for request: {which} of model "
                f"{self.name!r}. Available versions: {sorted(loaded)}."
            )
        return version, loaded[version]

    def status(self, version: int | None = None) -> list[pb.ModelVersionStatus]:
        """Returns the states of one version or of all known, newest first.

        Raises:
            UnknownModelError: No such version was ever seen.
        """
        states = self._states
        if version is None:
            return [states[key] for key in sorted(states, reverse=True)]
        if version not in states:
            raise UnknownModelError(
                f"Model {self.name!r} has no version {version}. Known "
                f"versions: {sorted(states)}."
            )
        return [states[version]]

    def poll(self) -> None:
        """Looks at the base path once: loads what is new, drops what is old."""
        wanted = self._list()[:KEPT_VERSIONS]
        for version in wanted:
            if version not in self._loaded and self._is_due(version):
                self._try_load(version)
        if any(version in self._loaded for version in wanted):
            for version in set(self._loaded) - set(wanted):
                self._drop(version)

    def _list(self) -> list[int]:
        try:
            names = [path.name for path in self._base_path.iterdir()]
        except OSError as error:
            _log.warning("%s can't be listed: %s", self._base_path, error)
            return []
        return sorted((int(n) for n in names if n.isdecimal()), reverse=True)

    def _is_due(self, version: int) -> bool:
        failure = self._failures.get(version)
        return failure is None or self._clock() >= failure.retry_at

    def _try_load(self, version: int) -> None:
        path = self._base_path / str(version)
        _log.info("%s: loading version %d from %s", self.name, version, path)
        self._set_state(version, _State.LOADING)
        try:
            model = self._load(path)
        except Exception as error:
            failure = self._failures.get(version)
            wait = (
                min(2 * failure.wait_seconds, LAST_RETRY_SECONDS)
                if failure
                else FIRST_RETRY_SECONDS
            )
            self._failures[version] = _Failure(self._clock() + wait, wait)
            _log.exception(
                "%s: version %d does not load; next try in %.0f s. "
                "Available: %s",
                self.name,
                version,
                wait,
                self.available,
            )
            self._set_state(version, _State.END, error=error)
            return
        self._failures.pop(version, None)
        self._loaded = {**self._loaded, version: model}
        self._set_state(version, _State.AVAILABLE)
        _log.info("%s: version %d is available", self.name, version)

    def _drop(self, version: int) -> None:
        # Calls that run hold the model; it goes when the last one ends.
        self._set_state(version, _State.UNLOADING)
        self._loaded = {
            key: model for key, model in self._loaded.items() if key != version
        }
        self._set_state(version, _State.END)
        _log.info("%s: version %d is dropped", self.name, version)

    def _set_state(
        self,
        version: int,
        state: "pb.ModelVersionStatus.State.ValueType",
        error: Exception | None = None,
    ) -> None:
        status = pb.ModelVersionStatus(version=version, state=state)
        if error is not None:
            status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
            status.status.error_message = str(error) or repr(error)
        self._states = {**self._states, version: status}
