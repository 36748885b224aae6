"""Which models are served, and which of their versions: the config file.

The file is TF Serving's (`--model_config_file` of `tensorflow_model_server`),
so the same one drives either server.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format

from serving.errors import LaunchError
from serving.protos import model_server_pb2 as pb

# With two, requests that pinned the version before are still answered.
DEFAULT_LATEST = 2
ALL = 2**31


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which versions of a model are wanted.

    Attributes:
        latest: How many of the newest.
        specific: Just these, instead; empty for the newest.
    """

    latest: int = DEFAULT_LATEST
    specific: frozenset[int] = frozenset()

    def wanted(self, present: Sequence[int]) -> list[int]:
        """Picks from versions that are there; newest first."""
        newest_first = sorted(present, reverse=True)
        if self.specific:
            return [v for v in newest_first if v in self.specific]
        return newest_first[: self.latest]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        base_path: Folder of the numbered version folders.
        policy: Which of them to serve.
        labels: Names of versions, for requests.
    """

    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_model_config(path: Path) -> dict[str, ModelConfig]:
    """Reads a model config file of TF Serving's.

    Raises:
        LaunchError: It can't be read, or does not say what is needed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # Others' fields, such as those for logging, don't matter here.
        message = text_format.Parse(
            text, pb.ModelServerConfig(), allow_unknown_field=True
        )
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise LaunchError(
            f"The model config file {path} can't be read: {error}"
        ) from error
    if not message.HasField("model_config_list"):
        # Whoever writes the file anew empties it first. `model_config_list {}`
        # says that there are none.
        raise LaunchError(
            f"The model config file {path} has no model_config_list."
        )
    models = {}
    for config in message.model_config_list.config:
        if not config.name or not config.base_path or config.name in models:
            raise LaunchError(
                f"The model config file {path} must give each model a name "
                f"of its own and a base_path; see {config.name!r}."
            )
        models[config.name] = ModelConfig(
            Path(config.base_path),
            _policy(config.model_version_policy),
            dict(config.version_labels),
        )
    return models


def _policy(policy: pb.VersionPolicy) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy(latest=ALL)
        case "specific":
            return VersionPolicy(specific=frozenset(policy.specific.versions))
        case _:
            # TF Serving's default, which differs from that of `--model`.
            return VersionPolicy(latest=policy.latest.num_versions or 1)
