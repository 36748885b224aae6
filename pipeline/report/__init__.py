"""The HTML report of a run: self-contained, readable offline and by ear."""

from pipeline.report.content import DatasetNotes, ReportInputs
from pipeline.report.page import render_report, write_report

__all__ = ["DatasetNotes", "ReportInputs", "render_report", "write_report"]
