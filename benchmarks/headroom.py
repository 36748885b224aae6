"""What a user's events still hold that the model's scores do not use.

    python -m benchmarks.headroom --run runs/movielens-1m

Refits the scores of meta_valid users together with whatever else is known of
their events: labels against the items' means, times, popularity, and even the
values that labels were made from (stars), which the model never sees. Five
folds over users; a logistic regression for each group of columns, and boosted
trees for all of them. What they gain is a floor of what the model leaves; if
none gains, more of the same information is not where a better figure lies.
meta_test is not looked at.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import farmhash
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tfx_bsl.coders import example_coder

from benchmarks.about import about
from components.cold_start_evaluator.stream_scoring import (
    online_scores,
    stream_scores,
)
from components.cold_users import ColdUser, join_runs, runs_of_users
from components.dataset_spec import DatasetSpec
from components.interaction_example_gen.files import find_files
from components.interaction_example_gen.reading import read_batches
from components.served_model import ServedModel
from pipeline.catalog import load_dataset_spec
from pipeline.fetch import DATA_VARIABLE, fetch_dataset
from serving.contract import protocol
from serving.contract.intervals import Rows, bootstrap
from serving.contract.labels import liked
from serving.contract.meta_config import OnlineMetaConfig

ROOT = pathlib.Path(__file__).parent.parent
FOLDS = 5
# An item's mean counts the mean of all as this many labels.
PRIOR_LABELS = 10.0
SCORES = ["score", "zero_shot"]
GROUPS = {
    "score": ["score"],
    "score, features alone": SCORES,
    "+ labels": [*SCORES, "label_mean", "label_excess", "known"],
    "+ items": [*SCORES, "item_mean", "item_liked", "item_count"],
    "+ times": [*SCORES, "since_first", "since_last", "known_span"],
    "+ stars": [*SCORES, "star_mean", "star_spread", "star_excess"],
}
ALL = sorted({column for columns in GROUPS.values() for column in columns})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", help="default: the run folder's name")
    arguments = parser.parse_args()
    os.environ.setdefault(DATA_VARIABLE, str(ROOT.parent / "shared" / "data"))
    name = arguments.dataset or arguments.run.resolve().name
    root = arguments.run / "pipeline_root"
    candidate = newest_model(root / "Trainer" / "model")
    joint = newest_model(root / "Trainer.joint" / "model")
    users = read_users(root, candidate)
    log = read_log(load_dataset_spec(name))
    zero_shot = stream_scores(joint, users, learn=False)
    figures = {
        "offline": stream_scores(candidate, users, learn=True),
        "online": online_scores(candidate, users, OnlineMetaConfig()).scores,
    }
    results = {
        regime: refit(
            judged_rows(users, log, scores, zero_shot, regime == "online")
        )
        for regime, scores in figures.items()
    }
    show(results)
    path = ROOT / "benchmarks" / "results" / f"headroom-{name}.json"
    document = {
        **about("benchmarks.headroom"),
        "split": protocol.META_VALID,
        "users": len(users),
        "folds": FOLDS,
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def newest(folder: pathlib.Path) -> pathlib.Path:
    numbered = [path for path in folder.iterdir() if path.name.isdecimal()]
    return max(numbered, key=lambda path: int(path.name))


def newest_model(folder: pathlib.Path) -> ServedModel:
    return ServedModel.load(newest(folder) / "Format-Serving")


def read_users(root: pathlib.Path, model: ServedModel) -> list[ColdUser]:
    """meta_valid's users, from the pipeline's raw examples."""
    folder = newest(root / "InteractionExampleGen" / "examples")
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    runs: dict[str, list[ColdUser]] = {}
    for file in sorted((folder / f"Split-{protocol.META_VALID}").iterdir()):
        records = tf.data.TFRecordDataset(str(file), compression_type="GZIP")
        batch = decoder.DecodeBatch(list(records.as_numpy_iterator()))
        for run in runs_of_users(batch, model.manifest.user_features):
            runs.setdefault(run.user_id, []).append(run)
    return [join_runs(parts) for parts in runs.values()]


def read_log(spec: DatasetSpec) -> pd.DataFrame:
    """The log with the values that labels are made from, and the labels."""
    folder = str(fetch_dataset(spec))
    wanted = [spec.user_column, spec.item_column, spec.label.column]
    frames = [
        batch.columns.to_pandas()
        for info in find_files(folder, spec.interactions.files)
        for batch in read_batches(
            info.path, folder, spec.interactions, wanted, "interactions"
        )
    ]
    log = pd.concat(frames).set_axis(["user", "item", "star"], axis=1)
    log["star"] = log["star"].astype(float)
    log["liked"] = (log["star"] >= spec.label.at_least).astype(float)
    return log.drop_duplicates(["user", "item"], keep="last")


def judged_rows(
    users: Sequence[ColdUser],
    log: pd.DataFrame,
    scores: Sequence[np.ndarray],
    zero_shot: Sequence[np.ndarray],
    online: bool,
) -> pd.DataFrame:
    """One row per judged row: scores, and what was known before it."""
    items = item_means(log)
    stars = log.set_index(["user", "item"]).star
    frames = []
    for user in users:
        events = pd.DataFrame(
            {
                "user": user.user_id,
                "item": user.item_ids,
                "label": liked(user.labels).astype(float),
                "time": user.timestamps,
            }
        ).join(stars[user.user_id], on="item")
        events = events.join(items, on="item")
        for window in protocol.stream_windows(user.positions):
            first = protocol.FIRST_SUPPORT_EVENTS
            if online:
                first += window.number * protocol.WINDOW_EVENTS
            known = events[user.positions < first]
            rows = events.iloc[window.rows].assign(
                window=window.number, **known_figures(known)
            )
            rows["since_first"] = np.log1p(rows.time - events.time.iloc[0])
            gap = rows.time - known.time.iloc[-1]
            rows["since_last"] = np.log1p(gap.clip(lower=0))
            frames.append(rows)
    table = pd.concat(frames, ignore_index=True)
    return table.assign(
        score=np.concatenate(scores), zero_shot=np.concatenate(zero_shot)
    )


def item_means(log: pd.DataFrame) -> pd.DataFrame:
    """Items by meta_train's events: how many stars, and how often liked."""
    split = {
        user: protocol.split_of_bucket(
            farmhash.fingerprint64(user) % 100, count
        )
        for user, count in log.user.value_counts().items()
    }
    train = log[log.user.map(split) == protocol.META_TRAIN]
    values = ["star", "liked"]
    items = train.groupby("item")[values]
    count = items.size()
    prior = train[values].mean()
    means = (items.sum() + PRIOR_LABELS * prior).div(
        count + PRIOR_LABELS, axis=0
    )
    return pd.DataFrame(
        {
            "item_mean": means.star,
            "item_liked": means.liked,
            "item_count": np.log1p(count),
        }
    )


def known_figures(known: pd.DataFrame) -> dict[str, float]:
    """What the events before a window say of their user."""
    return {
        "known": np.log1p(len(known)),
        "label_mean": known.label.mean(),
        "label_excess": (known.label - known.item_liked).mean(),
        "star_mean": known.star.mean(),
        "star_spread": known.star.std(),
        "star_excess": (known.star - known.item_mean).mean(),
        "known_span": np.log1p(known.time.iloc[-1] - known.time.iloc[0]),
    }


def refit(table: pd.DataFrame) -> dict[str, Any]:
    """AUC of the score as it is and of each refit, with paired intervals."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=100,
        max_leaf_nodes=6,
        min_samples_leaf=400,
        l2_regularization=10.0,
        random_state=0,
    )
    folds = GroupKFold(FOLDS)

    def refitted(model: Any, columns: Sequence[str]) -> np.ndarray:
        return cross_val_predict(
            model,
            table[list(columns)].fillna(0.0).to_numpy(),
            table.label,
            groups=table.user,
            cv=folds,
            method="decision_function",
        )

    scores = {"as it is": table.score.to_numpy()}
    scores |= {
        name: refitted(linear, columns) for name, columns in GROUPS.items()
    }
    scores["everything, linear"] = refitted(linear, ALL)
    scores["everything, boosted trees"] = refitted(trees, ALL)
    rows = Rows(
        user=pd.factorize(table.user)[0],
        window=table.window.to_numpy(),
        label=table.label.to_numpy(),
    )
    gains = {f"gain of {name}": (name, "as it is") for name in scores}
    figures = bootstrap(rows, scores, gains, draws=300)["auc"]
    return {
        name: {
            "auc": figures[name].value,
            "gain_points": dataclasses.asdict(
                figures[f"gain of {name}"].scaled(100)
            ),
        }
        for name in scores
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    for regime, refits in results.items():
        table = Table("refit with", "AUC", "gain, points (95%)", title=regime)
        for name, figures in refits.items():
            gain = figures["gain_points"]
            interval = "({low:+.2f} to {high:+.2f})".format(**gain)
            table.add_row(
                name,
                f"{figures['auc']:.4f}",
                f"{gain['value']:+.2f} {interval}",
            )
        Console().print(table)


if __name__ == "__main__":
    main()
