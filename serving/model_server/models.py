"""The models of a server, and the thread that keeps them up to date."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from serving.errors import LaunchError, UnknownModelError
from serving.model_server.config import Config
from serving.model_server.loaded_model import LoadedModel
from serving.model_server.model_config import ModelConfig, read_model_config
from serving.model_server.versions import ModelVersions
from serving.model_server.warmup import load_warm

_log = logging.getLogger(__name__)

Versions = ModelVersions[LoadedModel]


class Models:
    """The served models by name.

    One thread calls `poll`, any thread the others.
    """

    def __init__(self, config: Config) -> None:
        """Sets the models up; nothing is loaded before `poll`.

        Raises:
            LaunchError: The model config file can't be used.
        """
        self._config = config
        self._served: Mapping[str, Versions] = {}
        self._retired: list[Versions] = []
        self._file_state: tuple[int, ...] = ()
        self._configure(config.models)
        self._read_file()

    @property
    def ready(self) -> bool:
        """Whether every model can answer."""
        return all(versions.available for versions in self._served.values())

    def find(self, name: str) -> Versions:
        """Returns the versions of a model.

        Raises:
            UnknownModelError: There is no such model.
        """
        versions = self._served.get(name)
        if versions is None:
            raise UnknownModelError(
                f"Servable not found for request: model {name!r}. Served "
                f"models: {', '.join(sorted(self._served))}."
            )
        return versions

    def poll(self) -> None:
        """Looks at the config file and at every base path once."""
        try:
            self._read_file()
        except LaunchError as error:
            _log.error("Models stay as they are: %s", error)
        for versions in self._served.values():
            versions.poll()
        self._retired = [v for v in self._retired if not v.retire()]

    def poll_until(self, stopped: threading.Event) -> None:
        """Polls until told to stop."""
        while not stopped.is_set():
            self.poll()
            stopped.wait(self._config.poll_seconds)

    def _read_file(self) -> None:
        """Follows the config file, if there is one and it has changed."""
        path = self._config.model_config_file
        if path is None:
            return
        state = _state(path)
        if state != self._file_state:
            # First of all, so that a bad file is reported once.
            self._file_state = state
            self._configure({**self._config.models, **read_model_config(path)})

    def _configure(self, configs: Mapping[str, ModelConfig]) -> None:
        served = {}
        for name, config in configs.items():
            versions = self._served.get(name)
            if versions is None:
                versions = Versions(name, config, self._load)
            versions.configure(config)
            served[name] = versions
        self._retired += [
            versions
            for name, versions in self._served.items()
            if name not in served
        ]
        self._served = served

    def _load(self, path: Path) -> LoadedModel:
        """Loads a version, with rests if there is somebody to answer."""
        answers = any(each.available for each in self._served.values())
        return load_warm(path, rests=answers)


def _state(path: Path) -> tuple[int, ...]:
    """Returns what differs if a file was changed, or replaced."""
    try:
        status = path.stat()
        times = status.st_mtime_ns, status.st_ctime_ns
        return *times, status.st_size, status.st_ino
    except OSError as error:
        raise LaunchError(
            f"The model config file {path} can't be read: {error}"
        ) from error
