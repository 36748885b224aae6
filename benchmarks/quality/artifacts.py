"""Finds a dataset's episodes, or makes them by the pipeline's own nodes."""

import dataclasses
import pathlib

from pipeline.catalog import load_dataset_spec
from pipeline.create_pipeline import create_data_pipeline
from pipeline.fetch import fetch_dataset
from pipeline.local_runner import run_pipeline
from pipeline.pipeline_config import PipelineConfig
from serving.contract.protocol import META_TEST, META_TRAIN, META_VALID

EPISODE_GEN = "EpisodeGen"


@dataclasses.dataclass(frozen=True)
class Artifacts:
    """Where a run's data stages left what the trainer reads.

    Attributes:
        episodes: Folder with `Split-*`.
        transform_graph: Folder of the transform graph.
    """

    episodes: pathlib.Path
    transform_graph: pathlib.Path

    def pattern(self, split: str) -> str:
        """Files of a split of the episodes."""
        return str(self.episodes / f"Split-{split}" / "*")


def find_or_make(dataset: str, run_dir: pathlib.Path) -> Artifacts:
    """Artifacts of a run folder; runs the data stages if there are none.

    Args:
        dataset: Name of a shipped dataset, or path of its spec.
        run_dir: The run folder, `runs/<dataset>`.
    """
    found = find(run_dir)
    if found is None:
        _run_data_stages(dataset, run_dir)
        found = find(run_dir)
    if found is None:
        raise SystemExit(f"{run_dir} holds no episodes of all three splits.")
    return found


def find(run_dir: pathlib.Path) -> Artifacts | None:
    """The newest complete artifacts in a run folder."""
    root = run_dir / "pipeline_root"
    episodes = [
        folder
        for folder in _executions(root / EPISODE_GEN / "episodes")
        if all(
            any((folder / f"Split-{split}").glob("*"))
            for split in (META_TRAIN, META_VALID, META_TEST, "catalog")
        )
    ]
    if not episodes:
        return None
    # A run that was stopped between the two leaves a newer graph, whose ids
    # are not those of the episodes.
    graphs = [
        folder
        for folder in _executions(root / "Transform" / "transform_graph")
        if int(folder.name) < int(episodes[-1].name)
    ]
    return Artifacts(episodes[-1], graphs[-1]) if graphs else None


def _executions(folder: pathlib.Path) -> list[pathlib.Path]:
    numbered = [path for path in folder.glob("*") if path.name.isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name))


def _run_data_stages(dataset: str, run_dir: pathlib.Path) -> None:
    spec = load_dataset_spec(dataset)
    config = PipelineConfig(
        dataset=spec, data_folder=fetch_dataset(spec), run_dir=run_dir
    )
    run_pipeline(config, define=create_data_pipeline)
