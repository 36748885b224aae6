"""What one run of the main job is told, and where it puts its files."""

import dataclasses
import pathlib
from collections.abc import Mapping

from pipeline.errors import ConfigError

DEFAULT_RUNS = pathlib.Path("runs")
LATEST = "latest"
# What is served; beside it, the baseline that it is measured against.
ADAPTIVE_MODEL = "adaptower"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run of the main job.

    Attributes:
        dataset: Name of a shipped dataset, or path of a YAML spec.
        data_path: Folder or archive that holds the dataset's files; fetched
            if None.
        runs: Folder that the run's own folder is made in.
        train_steps: Outer-loop steps; the trainer's default if None.
        replay_users: Replay only the first so many cold users; all if None.
        tune: Whether Keras Tuner searches the partition first.
        use_cache: Whether stages that have nothing new to do are skipped.
        beam_args: Further Beam pipeline arguments, such as a runner.
        store: The gateways' store, whose users are learned for the new model
            before it is pushed; None: nobody is.
        store_ttl_seconds: When its users expire; None: never.
        seed: Of initialization and of the order of the training tasks.
        hyper_parameters: Of the trainer, by name, as text; they override
            those of the dataset's spec.
    """

    dataset: str
    data_path: pathlib.Path | None = None
    runs: pathlib.Path = DEFAULT_RUNS
    train_steps: int | None = None
    replay_users: int | None = None
    tune: bool = False
    use_cache: bool = True
    beam_args: tuple[str, ...] = ()
    store: str | None = None
    store_ttl_seconds: float | None = None
    seed: int = 0
    hyper_parameters: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )

    @property
    def overrides(self) -> dict[str, int | str]:
        """Hyper-parameters that are given, by name."""
        steps = (
            {} if self.train_steps is None else {"max_steps": self.train_steps}
        )
        return {"seed": self.seed, **self.hyper_parameters, **steps}


@dataclasses.dataclass(frozen=True)
class RunLayout:
    """Paths of a run's folder.

    Attributes:
        root: The folder itself, `runs/<dataset>`.
    """

    root: pathlib.Path

    @property
    def pipeline_root(self) -> pathlib.Path:
        """Artifacts of all executions, by component."""
        return self.root / "pipeline_root"

    @property
    def metadata(self) -> pathlib.Path:
        """The ML Metadata database."""
        return self.root / "metadata.sqlite"

    @property
    def serving(self) -> pathlib.Path:
        """Base paths that the model server watches, one for each model."""
        return self.root / "serving"

    @property
    def store(self) -> pathlib.Path:
        """The adaptive weights of the users."""
        return self.root / "store"

    @property
    def training_state(self) -> pathlib.Path:
        """Checkpoints that a killed training goes on from."""
        return self.root / "training_state"

    @property
    def tuning(self) -> pathlib.Path:
        """Searches for hyper-parameters and their trials."""
        return self.root / "tuning"

    @property
    def logs(self) -> pathlib.Path:
        """Logs of the servers and of the pipeline."""
        return self.root / "logs"

    @property
    def summary(self) -> pathlib.Path:
        """The figures of the last replay."""
        return self.root / "summary.json"

    @property
    def report(self) -> pathlib.Path:
        """The HTML report of the last replay."""
        return self.root / "report.html"

    def models(self) -> dict[str, pathlib.Path]:
        """Base path of each pushed model by its name.

        Raises:
            ConfigError: Nothing was pushed, or the baseline alone.
        """
        found = {
            path.name: path
            for path in sorted(self.serving.glob("*"))
            if any(child.name.isdecimal() for child in path.glob("*"))
        }
        if not found:
            raise ConfigError(
                f"The run in {self.root} has pushed no model (looked in "
                f"{self.serving}). Start it again with `adaptower run`; if it "
                "ends without a push, its evaluation says why."
            )
        if ADAPTIVE_MODEL not in found:
            raise ConfigError(
                f"The run in {self.root} has pushed {', '.join(found)} alone: "
                f"its evaluation did not bless {ADAPTIVE_MODEL!r}, and says "
                "why. Train longer or on more data, or give the folder of "
                "another run."
            )
        return found

    def artifact(self, component: str, output: str) -> pathlib.Path:
        """The newest artifact of one output of a component.

        Args:
            component: Id of the component, such as `Trainer`.
            output: Key of the output, such as `model`.

        Raises:
            ConfigError: The run never got there.
        """
        folder = self.pipeline_root / component / output
        executions = [
            path for path in folder.glob("*") if path.name.isdecimal()
        ]
        if not executions:
            raise ConfigError(
                f"The run in {self.root} has no output {output!r} of "
                f"{component} (looked in {folder}). Start it again with "
                "`adaptower run`; finished stages are not repeated."
            )
        return max(executions, key=lambda path: int(path.name))


def open_run(path: pathlib.Path) -> RunLayout:
    """The layout of an existing run.

    Args:
        path: The run's folder; `runs/latest` is the last one.

    Raises:
        ConfigError: There is no such run.
    """
    if not path.is_dir():
        others = sorted(
            child.name
            for child in path.parent.glob("*")
            if child.is_dir() and child.name != LATEST
        )
        known = f" There are: {', '.join(others)}." if others else ""
        raise ConfigError(
            f"There is no run in {path}.{known} Make one with `adaptower run`, "
            "or name another folder with --run."
        )
    return RunLayout(path.resolve())
