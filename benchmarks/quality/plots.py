"""The benchmark's plots as SVG, drawn from its JSON."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Document = Mapping[str, Any]

# Colour, line and marker of each regime that is drawn: told apart without
# colours, too.
_STYLES = {
    "oracle": ("#1d1b19", "-.", "*"),
    "online": ("#b8430a", "-", "o"),
    "offline": ("#0a65a3", "--", "D"),
    "history": ("#2e7d4f", "-", "^"),
    "maml_all": ("#7a4b9a", "-", "v"),
    "joint_finetune": ("#8a6d00", "--", "s"),
    "joint": ("#6a645c", ":", "s"),
    "item_mean": ("#9a9489", ":", "x"),
}
# Bands of all would hide each other.
_WITH_INTERVAL = ("oracle", "online", "offline")
_TRAININGS = {"meta": "offline"}
_SETTINGS = {
    "svg.fonttype": "none",
    # The same data gives the same file.
    "svg.hashsalt": "adaptower",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4dfd5",
    "legend.frameon": False,
}


def write(folder: pathlib.Path, document: Document) -> None:
    """Writes the plots of one dataset.

    Args:
        folder: Where to; made if absent.
        document: The dataset's part of `quality.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_SETTINGS):
        for name, figure in _plots(document):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _plots(document: Document) -> Iterator[tuple[str, Figure]]:
    windows = document["stream"]["windows"]
    if windows:
        for key, title in (("auc", "AUC"), ("wgauc", "wGAUC")):
            x = [window["window"] + 1 for window in windows]
            columns = [window["regimes"] for window in windows]
            figure, axes = _axes("window of ten events", title)
            _curves(axes, x, columns, key)
            yield f"{key}_by_window", figure
    by_k = document["few_shot"]["by_k"]
    if by_k:
        figure, axes = _axes("events in the support set", "AUC")
        _curves(axes, range(len(by_k)), list(by_k.values()), "auc")
        axes.set_xticks(range(len(by_k)), list(by_k))
        yield "auc_by_k", figure
    if document["presets"]:
        yield "auc_by_bytes", _by_bytes(document["presets"])
    if "auc_by_step" in document:
        yield "auc_by_step", _by_step(document["auc_by_step"])
    if "partition_map" in document:
        yield "partition_map", _partition(document["partition_map"][0])


def _axes(x_title: str, y_title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    return figure, axes


def _curves(
    axes: Axes, x: Sequence[int], columns: Sequence[Document], key: str
) -> None:
    """One line per regime, with the intervals of a few as bands."""
    for regime, (colour, line, marker) in _STYLES.items():
        if regime not in columns[0]:
            continue
        points = [column[regime][key] for column in columns]
        axes.plot(
            x,
            _numbers(points, "value"),
            color=colour,
            linestyle=line,
            marker=marker,
            label=regime,
        )
        if regime in _WITH_INTERVAL:
            low, high = _numbers(points, "low"), _numbers(points, "high")
            axes.fill_between(x, low, high, color=colour, alpha=0.1)
    axes.figure.legend(loc="outside right upper", fontsize=9)


def _numbers(points: Sequence[Document], name: str) -> list[float]:
    return [np.nan if p[name] is None else p[name] for p in points]


def _by_bytes(presets: Document) -> Figure:
    figure, axes = _axes("bytes of adaptive weights per user", "AUC")
    axes.set_xscale("log", base=2)
    for regime in ("offline", "online"):
        colour, _, marker = _STYLES[regime]
        points = [
            (of["bytes_per_user"], of["regimes"][regime]["auc"], name)
            for name, of in presets.items()
        ]
        x = [size for size, _, _ in points]
        values = [auc["value"] for _, auc, _ in points]
        spread = [
            [auc["value"] - auc["low"] for _, auc, _ in points],
            [auc["high"] - auc["value"] for _, auc, _ in points],
        ]
        axes.errorbar(
            x, values, spread, color=colour, fmt=marker, label=regime, alpha=0.8
        )
        for size, auc, name in points if regime == "online" else ():
            text = name.removeprefix("preset-")
            axes.annotate(text, (size, auc["value"]), fontsize=7, rotation=20)
    axes.legend()
    return figure


def _by_step(curves: Document) -> Figure:
    figure, axes = _axes("outer steps", "AUC on meta_valid")
    for training, by_seed in curves.items():
        colour, line, _ = _STYLES[_TRAININGS.get(training, training)]
        for index, curve in enumerate(by_seed):
            steps = sorted(map(int, curve))
            by_number = {int(step): auc for step, auc in curve.items()}
            axes.plot(
                steps,
                [by_number[step] for step in steps],
                color=colour,
                linestyle=line,
                label=None if index else training,
            )
    axes.legend()
    return figure


def _partition(parameters: Sequence[Document]) -> Figure:
    """Step sizes of all adaptive values, parameter by parameter."""
    figure, axes = _axes("step size", "")
    names = []
    for place, parameter in enumerate(parameters):
        steps = parameter["step_sizes"]
        axes.plot(
            steps, [place] * len(steps), "|", color="#b8430a", markersize=12
        )
        adaptive, values = parameter["adaptive"], parameter["values"]
        names.append(f"{parameter['name']}\n{adaptive} of {values}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.5)
    return figure
