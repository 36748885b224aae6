"""Which versions of a model are loaded, and how one follows the other.

TF Serving's rules: the versions are the numbered folders of the base path; a
policy says which are wanted; one is dropped only when a wanted one is
available, so that a bad push never leaves a model without an answer; and
what it holds is freed only when the last request that uses it has ended.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from serving.errors import InvalidRequestError, UnknownModelError
from serving.model_server.model_config import ModelConfig
from serving.model_server.retries import Retries
from serving.model_server.states import VersionStates
from serving.protos import tf_serving_pb2 as pb

_log = logging.getLogger(__name__)
_State = pb.ModelVersionStatus


class Closable(Protocol):
    """What a version loads as."""

    def close(self) -> None:
        """Frees it."""


Model = TypeVar("Model", bound=Closable)


@dataclasses.dataclass(eq=False)
class Loaded(Generic[Model]):
    """A loaded version.

    Attributes:
        version: Its number.
        path: The folder that it was loaded from.
        model: What it loaded as.
        users: How many requests use it at the moment.
    """

    version: int
    path: Path
    model: Model
    users: int = 0


class ModelVersions(Generic[Model]):
    """The versions of one model.

    One thread calls `configure`, `poll` and `retire`; any thread may call the
    others. They read dictionaries that are replaced, never changed.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        load: Callable[[Path], Model],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets the model up; nothing is loaded before the first `poll`.

        Args:
            name: Name in requests.
            config: Where the versions are and which to serve.
            load: Loads a version folder; whatever it raises is a bad version.
            clock: Seconds, for the retries.
        """
        self.name = name
        self._config = config
        self._load = load
        self._loaded: Mapping[int, Loaded[Model]] = {}
        self._draining: list[Loaded[Model]] = []
        self._states = VersionStates(name)
        self._retries = Retries(clock)
        self._lock = threading.Lock()

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that can answer, oldest first."""
        return tuple(sorted(self._loaded))

    def acquire(
        self, version: int | None = None, label: str = ""
    ) -> "Loaded[Model]":
        """Returns a version, which stays loaded until it is released.

        Args:
            version: Its number; None for the newest.
            label: Its label, instead of the number.

        Raises:
            UnknownModelError: It is not loaded.
            InvalidRequestError: There is no such label.
        """
        if label:
            version = self._config.labels.get(label)
            if version is None:
                raise InvalidRequestError(
                    f"Unrecognized servable version label: {label}. Labels of "
                    f"model {self.name!r}: {sorted(self._config.labels)}."
                )
        with self._lock:
            loaded = self._find(version)
            loaded.users += 1
        return loaded

    def release(self, loaded: "Loaded[Model]") -> None:
        """Tells that a request no longer needs a version."""
        with self._lock:
            loaded.users -= 1

    def _find(self, version: int | None) -> Loaded[Model]:
        if version is None and self._loaded:
            version = max(self._loaded)
        if version is None or version not in self._loaded:
            which = "Latest" if version is None else f"Specific({version})"
            raise UnknownModelError(
                f"Servable not found for request: {which} of model "
                f"{self.name!r}. Available versions: {sorted(self._loaded)}."
            )
        return self._loaded[version]

    def status(self, version: int | None = None) -> list[pb.ModelVersionStatus]:
        """Returns the states of one version or of all known, newest first.

        Raises:
            UnknownModelError: No such version was ever seen.
        """
        return self._states.of(version)

    def configure(self, config: ModelConfig) -> None:
        """Changes base path, policy and labels, from the next poll on.

        Under another base path each version is another one: what is loaded
        answers until one from there can.
        """
        if config.base_path != self._config.base_path:
            self._retries.forget()
        self._config = config

    def poll(self) -> None:
        """Looks at the base path once: loads what is new, drops what is old."""
        wanted = self._config.policy.wanted(self._list())
        for version in wanted:
            if not self._has(version) and self._retries.is_due(version):
                self._try_load(version)
        kept = {version for version in wanted if self._has(version)}
        if kept:
            for version in set(self._loaded) - kept:
                self._drop(version)
        self._free_drained()

    def retire(self) -> bool:
        """Drops every version; returns whether all are freed."""
        for version in self._loaded:
            self._drop(version)
        self._free_drained()
        return not self._draining

    def _list(self) -> list[int]:
        base_path = self._config.base_path
        try:
            names = [path.name for path in base_path.iterdir()]
        except OSError as error:
            _log.warning("%s can't be listed: %s", base_path, error)
            return []
        versions = [int(name) for name in names if name.isdecimal()]
        # Others can't be asked for: requests name them by an int64.
        return [version for version in versions if version < 1 << 63]

    def _has(self, version: int) -> bool:
        """Whether a version is loaded, from where it is to come from now."""
        loaded = self._loaded.get(version)
        return loaded is not None and loaded.path == self._path(version)

    def _path(self, version: int) -> Path:
        return self._config.base_path / str(version)

    def _try_load(self, version: int) -> None:
        path, before = self._path(version), self._loaded.get(version)
        _log.info("%s: loading version %d from %s", self.name, version, path)
        if before is None:
            self._states.set(version, _State.LOADING)
        try:
            model = self._load(path)
        except Exception as error:
            wait = self._retries.failed(version)
            _log.exception(
                "%s: version %d does not load; next try in %.0f s. "
                "Available: %s",
                self.name,
                version,
                wait,
                self.available,
            )
            if before is None:
                self._states.set(version, _State.END, error=error)
            return
        self._retries.succeeded(version)
        with self._lock:
            if before is not None:
                self._draining.append(before)
            loaded = Loaded(version, path, model)
            self._loaded = {**self._loaded, version: loaded}
        self._states.set(version, _State.AVAILABLE)
        _log.info("%s: version %d is available", self.name, version)

    def _drop(self, version: int) -> None:
        self._states.set(version, _State.UNLOADING)
        with self._lock:
            self._draining.append(self._loaded[version])
            self._loaded = {
                key: loaded
                for key, loaded in self._loaded.items()
                if key != version
            }

    def _free_drained(self) -> None:
        # Nobody can begin to use them any more, so a zero stays one.
        for loaded in [d for d in self._draining if not d.users]:
            loaded.model.close()
            self._draining.remove(loaded)
            # It may have been loaded again meanwhile.
            if loaded.version not in self._loaded:
                self._states.set(loaded.version, _State.END)
            _log.info("%s: version %d is dropped", self.name, loaded.version)
