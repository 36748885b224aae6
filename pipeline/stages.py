"""What is told about the nodes of a run while it runs, and after."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

RUNNING = "running"
DONE = "done"
CACHED = "cached"
FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One node of the pipeline in one run.

    Attributes:
        node: Id of the node, such as `Trainer`.
        number: 1 for the first node of the pipeline.
        total: How many nodes the pipeline has.
        state: `RUNNING`, `DONE`, `CACHED` or `FAILED`.
        seconds: Time it took; 0 while running.
        summary: What it made, in its own words; may be empty.
        outputs: URIs of its output artifacts by output key.
    """

    node: str
    number: int
    total: int
    state: str
    seconds: float = 0.0
    summary: str = ""
    outputs: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class PipelineRun:
    """A run of the pipeline that came to its end.

    Attributes:
        stages: All nodes in the order they ran.
    """

    stages: tuple[Stage, ...]

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds of each node, cached or not."""
        return {stage.node: stage.seconds for stage in self.stages}

    def output(self, node: str, key: str) -> pathlib.Path:
        """The folder of the only artifact of one output.

        It is the artifact of this run: with a cache that need not be the one
        written last.

        Args:
            node: Id of the node.
            key: Name of the output.

        Raises:
            KeyError: No such node or output.
        """
        outputs = {stage.node: stage.outputs for stage in self.stages}
        [uri] = outputs[node][key]
        return pathlib.Path(uri)

    def write(self, path: pathlib.Path) -> None:
        """Writes state and seconds of each node as JSON, all or nothing."""
        values = {
            stage.node: {
                "seconds": round(stage.seconds, 3),
                "state": stage.state,
                "summary": stage.summary,
            }
            for stage in self.stages
        }
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(values, indent=2), encoding="utf-8")
        partial.replace(path)


def print_stage(stage: Stage) -> None:
    """Prints one line when a node starts and one when it ends."""
    place = f"[{stage.number:2d}/{stage.total}] {stage.node:<26}"
    if stage.state == RUNNING:
        print(f"{place} ...", flush=True)
        return
    summary = f"  {stage.summary}" if stage.summary else ""
    print(
        f"{place} {stage.state:<7} {stage.seconds:7.1f} s{summary}", flush=True
    )
