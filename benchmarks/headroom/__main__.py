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

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.about import about
from benchmarks.headroom.inputs import newest_model, read_log, read_users
from benchmarks.headroom.rows import judged_rows
from components.cold_start_evaluator.stream_scoring import (
    online_scores,
    stream_scores,
)
from pipeline.catalog import load_dataset_spec
from pipeline.fetch import DATA_VARIABLE
from serving.contract import protocol
from serving.contract.intervals import Rows, bootstrap
from serving.contract.meta_config import OnlineMetaConfig

ROOT = pathlib.Path(__file__).parents[2]
FOLDS = 5
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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.headroom",
        description=__doc__.splitlines()[0],
    )
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
