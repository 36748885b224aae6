"""What state each version of a model is in, as GetModelStatus tells it."""

from collections.abc import Mapping

import grpc

from serving.errors import UnknownModelError
from serving.protos import tf_serving_pb2 as pb


class VersionStates:
    """The states of one model's versions, those that are gone as well.

    One thread calls `set`, any thread `of`: it reads a dictionary that is
    replaced, never changed.
    """

    def __init__(self, name: str) -> None:
        """Begins with none.

        Args:
            name: Of the model.
        """
        self._name = name
        self._states: Mapping[int, pb.ModelVersionStatus] = {}

    def of(self, version: int | None = None) -> list[pb.ModelVersionStatus]:
        """Returns the states of one version or of all known, newest first.

        Raises:
            UnknownModelError: No such version was ever seen.
        """
        states = self._states
        if version is None:
            return [states[key] for key in sorted(states, reverse=True)]
        if version not in states:
            raise UnknownModelError(
                f"Model {self._name!r} has no version {version}. Known "
                f"versions: {sorted(states)}."
            )
        return [states[version]]

    def set(
        self,
        version: int,
        state: "pb.ModelVersionStatus.State.ValueType",
        error: Exception | None = None,
    ) -> None:
        """Notes the state of a version.

        Args:
            version: Its number.
            state: What it is in.
            error: Why it can't be loaded.
        """
        status = pb.ModelVersionStatus(version=version, state=state)
        if error is not None:
            status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
            status.status.error_message = str(error) or repr(error)
        self._states = {**self._states, version: status}
