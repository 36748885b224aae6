"""Lays the report out as one HTML file that needs nothing else."""

import datetime
import os
from pathlib import Path

import jinja2

from pipeline.report.content import ReportInputs, Section
from pipeline.report.curves import few_shot_section, window_section
from pipeline.report.example import LIKED, example_section
from pipeline.report.lift import lift_section
from pipeline.report.scores import score_section
from pipeline.report.serving_cost import latency_section, stage_section
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES

_TEMPLATES = Path(__file__).parent

_REGIME_NOTES = {
    JOINT: "scored from features alone",
    OFFLINE: "learned once, from 10 events",
    ONLINE: "learns from every window",
}


def write_report(inputs: ReportInputs, path: str | os.PathLike[str]) -> None:
    """Writes the report, whole or not at all.

    Args:
        inputs: What to show.
        path: The HTML file.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(render_report(inputs), encoding="utf-8")
    partial.replace(target)


def render_report(inputs: ReportInputs) -> str:
    """Returns the report as HTML; all text from data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary = inputs.summary
    return environment.get_template("report.html").render(
        summary=summary,
        created=datetime.datetime.fromisoformat(summary.created),
        notes=inputs.notes,
        regimes=[
            {
                "name": regime,
                "note": _REGIME_NOTES[regime],
                "auc": summary.auc[regime],
                "wgauc": summary.wgauc[regime],
                "lift": summary.lift.get(regime),
            }
            for regime in REGIMES
        ],
        sections=_sections(inputs),
        liked=LIKED,
    )


def _sections(inputs: ReportInputs) -> list[Section]:
    sections = (
        lift_section(inputs),
        window_section(inputs),
        example_section(inputs),
        few_shot_section(inputs),
        score_section(inputs),
        latency_section(inputs),
        stage_section(inputs),
    )
    return [section for section in sections if section is not None]
