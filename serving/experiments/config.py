"""What an experiment is, read from a YAML or JSON file.

    log: exposures                   # folder, beside this file if relative
    key: exposures/pseudonym.key     # names users in the log; made if missing
    experiments:
      - name: freeze                 # tries: is ten events' learning enough?
        share: 0.2                   # of the users take part; default: all
        arms:
          - name: control            # the first one is compared with
            weight: 3
          - name: frozen
            adaptation: {freeze_after: 10}
      - name: next-model
        arms:
          - name: control
          - name: candidate
            model: candidate         # a --model of the gateway
        shadows:                     # ranked as well, never shown
          - name: joint
            model: joint
            adaptation: "off"

A user is in the first experiment that takes them.
"""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml

from serving.errors import LaunchError
from serving.experiments.section import Section, check_unique

KEY_FILE = "pseudonym.key"


@dataclasses.dataclass(frozen=True)
class Arm:
    """What is done for some users.

    Attributes:
        name: Unique within the experiment.
        weight: Share of the users, relative to the other arms'.
        model: Which model answers; None: the gateway's default.
        version: Which version of it; None: the current one.
        max_support: How many of a user's events are learned from; 0 adapts
            nothing and serves the meta-initialization, None learns on and on.
    """

    name: str
    weight: float = 1.0
    model: str | None = None
    version: int | None = None
    max_support: int | None = None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Arms that are compared.

    Attributes:
        name: Unique.
        arms: The first is the one that others are compared with.
        shadows: Arms that are asked as well, but not shown to the user.
        share: Share of the users that take part, from 0 to 1.
        salt: What user ids are hashed with. Two experiments with the same
            salt put users into the same places.
    """

    name: str
    arms: tuple[Arm, ...]
    shadows: tuple[Arm, ...] = ()
    share: float = 1.0
    salt: str = ""


@dataclasses.dataclass(frozen=True)
class ExperimentsConfig:
    """What an experiments file says.

    Attributes:
        experiments: In the order in which they take users.
        log: Folder of the exposure log.
        key: File with the key that users are named by in it; the same for
            all gateways whose logs are read together.
    """

    experiments: tuple[Experiment, ...]
    log: Path
    key: Path


def load_experiments(path: Path) -> ExperimentsConfig:
    """Reads an experiments file.

    Raises:
        LaunchError: It can't be read, or something in it is wrong; the
            message says where.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LaunchError(f"Can't read the experiments: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LaunchError(f"{path} is not YAML: {error}") from error
    top = Section(content, str(path), {"experiments", "log", "key"})
    experiments = top.each("experiments", _experiment)
    if not experiments:
        raise LaunchError(f"{path}: experiments: at least one is needed")
    log = path.parent / top.take("log", str, "exposures")
    key = top.take("key", str, None)
    return ExperimentsConfig(
        experiments, log, path.parent / key if key else log / KEY_FILE
    )


def check_models(
    config: ExperimentsConfig, models: Collection[str], default_model: str
) -> None:
    """Refuses experiments that a gateway with these models can't make.

    Raises:
        LaunchError: An arm asks a model that is not there, or a shadow would
            learn into one that users are served with.
    """
    for experiment in config.experiments:
        where = f"experiment {experiment.name!r}"
        for arm in (*experiment.arms, *experiment.shadows):
            if arm.model is not None and arm.model not in models:
                raise LaunchError(
                    f"{where}: arm {arm.name!r} asks the model {arm.model!r}; "
                    f"there are {', '.join(sorted(models))}."
                )
        _check_shadows(
            where, experiment.arms, experiment.shadows, default_model
        )


def _experiment(section: Section) -> Experiment:
    section.allow({"name", "share", "salt", "arms", "shadows"})
    name = section.name()
    arms = section.each("arms", _arm)
    if not arms:
        raise LaunchError(f"{section.where}.arms: at least one is needed")
    share = section.take("share", float, 1.0)
    if not 0.0 <= share <= 1.0:
        raise LaunchError(f"{section.where}.share: {share} is not from 0 to 1")
    shadows = section.each("shadows", _arm)
    _check_shadows(section.where, arms, shadows)
    names = [arm.name for arm in (*arms, *shadows)]
    check_unique(names, f"{section.where}: arms and shadows")
    return Experiment(
        name, arms, shadows, share, section.take("salt", str, name)
    )


def _check_shadows(
    where: str,
    arms: Sequence[Arm],
    shadows: Sequence[Arm],
    default_model: str | None = None,
) -> None:
    served = {arm.model or default_model for arm in arms}
    for number, shadow in enumerate(shadows):
        model = shadow.model or default_model
        if model in served and shadow.max_support != 0:
            raise LaunchError(
                f"{where}.shadows[{number}]: it would learn into the weights "
                "that users are served with. Give it a model of its own, or "
                'say adaptation: "off".'
            )


def _arm(section: Section) -> Arm:
    section.allow({"name", "weight", "model", "version", "adaptation"})
    weight = section.take("weight", float, 1.0)
    if not weight > 0.0:
        raise LaunchError(f"{section.where}.weight: must be more than 0")
    return Arm(
        section.name(),
        weight,
        section.take("model", str, None),
        section.take("version", int, None),
        _max_support(section),
    )


def _max_support(section: Section) -> int | None:
    value = section.content.get("adaptation", "on")
    # Bare on and off are booleans in YAML.
    if value in ("on", True):
        return None
    if value in ("off", False):
        return 0
    if isinstance(value, dict) and value.keys() == {"freeze_after"}:
        events = value["freeze_after"]
        if isinstance(events, int) and events > 0:
            return events
    raise LaunchError(
        f"{section.where}.adaptation: {value!r} is none of on, off and "
        "{freeze_after: EVENTS}"
    )
