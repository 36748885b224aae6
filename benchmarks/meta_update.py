"""What moving the meta-initialization online adds, and what it costs.

    python -m benchmarks.meta_update --run runs/movielens-1m

Scores the stream of meta_valid in order of arrival, with the meta state
standing still (users' own weights learn, only) and moving at several step
sizes. Then the same where there is something to be gained: with the exported
meta-initialization set to zero, and with users who like less, or more, than
those trained on. Differences are paired, with 95% intervals over users.
Forgetting: AUC of the first tenth of the users at the time, less their AUC
when they are scored again with the last meta state. meta_test is not looked
at. Prints a table and writes benchmarks/results/meta_update-NAME.json.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.about import about
from components.cold_start_evaluator.stream_scoring import ServedUsers
from components.cold_users import ColdUser
from components.served_model import ServedModel
from pipeline.cold_stream import load_cold_stream
from serving.contract import metrics, protocol
from serving.contract.intervals import Rows, bootstrap
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import MetaState
from serving.contract.online_stream import OnlineScores, score_online

ROOT = pathlib.Path(__file__).parent.parent
STILL = "still"
# Wide bounds, so that what is compared is the step size.
CONFIGS = {
    STILL: OnlineMetaConfig(enabled=False),
    "0.003": OnlineMetaConfig(),
    "0.01": OnlineMetaConfig(outer_lr=0.01, max_shift=2.0),
    "0.03": OnlineMetaConfig(outer_lr=0.03, max_shift=2.0),
}
DRAWS = 500


@dataclasses.dataclass(frozen=True)
class Population:
    """Users, and the meta state that they meet.

    Attributes:
        name: What is special about them.
        users: In any order.
        exported: Where the stream begins.
    """

    name: str
    users: Sequence[ColdUser]
    exported: MetaState


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.meta_update", description=__doc__
    )
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument(
        "--model",
        type=pathlib.Path,
        help="a SavedModel; default: what the run's Trainer wrote last",
    )
    args = parser.parse_args(arguments)
    outputs = args.run / "pipeline_root"
    model = ServedModel.load(
        args.model or newest(outputs / "Trainer/model") / "Format-Serving"
    )
    stream = load_cold_stream(
        str(newest(outputs / "InteractionExampleGen/examples")),
        model.manifest.user_features,
        protocol.META_VALID,
    )
    users = [ColdUser(**vars(user)) for user in stream.users]
    results = {
        population.name: measure(model, population)
        for population in populations(users, model.manifest.meta_state)
    }
    show(results)
    path = ROOT / f"benchmarks/results/meta_update-{args.run.name}.json"
    document = {
        **about("benchmarks.meta_update"),
        "users": len(users),
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def newest(folder: pathlib.Path) -> pathlib.Path:
    """The output of a node's last execution."""
    return max(folder.glob("[0-9]*"), key=lambda path: int(path.name))


def populations(
    users: Sequence[ColdUser], exported: MetaState
) -> list[Population]:
    """Users as they are, and users whom the export does not fit."""
    likes = np.array([user.labels.mean() for user in users])
    is_harsh = likes < np.median(likes)
    nothing = MetaState(
        np.zeros_like(exported.meta_init), exported.log_inner_lr
    )

    def chosen(of: NDArray[np.bool_]) -> list[ColdUser]:
        return [user for user, one in zip(users, of, strict=True) if one]

    return [
        Population("as trained on", users, exported),
        Population("meta-initialization zeroed", users, nothing),
        Population("the harsher half", chosen(is_harsh), exported),
        Population("the milder half", chosen(~is_harsh), exported),
    ]


def measure(model: ServedModel, population: Population) -> dict[str, Any]:
    """Figures by step size, and their differences to standing still."""
    rows = judged_rows(population.users)
    scores = {}
    found: dict[str, dict[str, Any]] = {}
    for name, config in CONFIGS.items():
        online = score(model, population, population.exported, config)
        progress = online.progress
        scores[name] = np.concatenate(online.scores)
        found[name] = {
            "promoted": progress.promoted,
            "refused": progress.refused,
            "max_shift": round(progress.max_shift, 4),
            "log_loss": metrics.log_loss(rows.label, scores[name]),
            "forgetting": forgetting(model, population, rows, online),
        }
    intervals = bootstrap(
        rows,
        scores,
        {f"{name} - {STILL}": (name, STILL) for name in CONFIGS},
        DRAWS,
    )
    for name, row in found.items():
        for figure, by_name in intervals.items():
            row[figure] = by_name[name].value
            gained = by_name[f"{name} - {STILL}"]
            row[f"{figure}_gained"] = dataclasses.asdict(gained)
    return found


def score(
    model: ServedModel,
    population: Population,
    begin: MetaState,
    config: OnlineMetaConfig,
) -> OnlineScores:
    """Scores the stream in order of arrival."""
    return score_online(
        ServedUsers(model, population.users),
        population.users,
        begin,
        model.manifest.reservoir_events,
        config,
    )


def forgetting(
    model: ServedModel,
    population: Population,
    rows: Rows,
    online: OnlineScores,
) -> float:
    """AUC that the first tenth of the users lost by the stream's end."""
    arrivals = np.argsort([user.timestamps[0] for user in population.users])
    first = np.isin(rows.user, arrivals[: max(1, len(arrivals) // 10)])
    again = score(model, population, online.progress.current, CONFIGS[STILL])
    at_the_time, at_the_end = (
        metrics.auc(rows.label[first], np.concatenate(scores)[first])
        for scores in (online.scores, again.scores)
    )
    return at_the_time - at_the_end


def judged_rows(users: Sequence[ColdUser]) -> Rows:
    """The rows that a stream's scores are of, user after user."""
    windows = [user.windows for user in users]

    def rows(value: Any) -> NDArray[Any]:
        return np.concatenate(
            [
                np.broadcast_to(value(user, window), window.rows.shape)
                for user, own in enumerate(windows)
                for window in own
            ]
        )

    return Rows(
        user=rows(lambda user, _: user),
        window=rows(lambda _, window: window.number),
        label=rows(lambda user, window: users[user].labels[window.rows]),
    )


def show(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Prints figures in points."""
    table = Table("users", "step size", "AUC", "gained", "wGAUC", "gained")
    for column in ("log loss", "forgetting", "promoted/refused"):
        table.add_column(column)
    for name, by_config in results.items():
        for config, row in by_config.items():
            table.add_row(
                name,
                config,
                *(
                    cell
                    for figure in ("auc", "wgauc")
                    for cell in (
                        f"{100 * row[figure]:.3f}",
                        "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(
                            **{
                                part: 100 * value
                                for part, value in row[
                                    f"{figure}_gained"
                                ].items()
                            }
                        ),
                    )
                ),
                f"{row['log_loss']:.5f}",
                f"{100 * row['forgetting']:+.3f}",
                f"{row['promoted']}/{row['refused']}",
            )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
