"""What the report is made of: inputs, and sections ready to be laid out."""

import dataclasses
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from pipeline.example_user import UserTrace
from pipeline.replay import ReplayResult
from pipeline.summary import Summary
from serving.contract.intervals import Interval


@dataclasses.dataclass(frozen=True)
class DatasetNotes:
    """What a reader must know about the data.

    Attributes:
        name: Name of the dataset's spec.
        description: One line for people.
        licence: Terms of use.
        citation: What to cite when using it.
    """

    name: str
    description: str = ""
    licence: str = ""
    citation: str = ""


@dataclasses.dataclass(frozen=True)
class ReportInputs:
    """Everything the report shows.

    Attributes:
        summary: The figures.
        result: Row-level scores and latencies.
        notes: About the data.
        few_shot_auc: AUC by model and by k, from the offline evaluator.
        trace: The example user's adaptation; None if there is none to show.
        titles: What to call items; an item without a title goes by its id.
    """

    summary: Summary
    result: ReplayResult
    notes: DatasetNotes
    few_shot_auc: Mapping[str, Mapping[int, Interval]] = dataclasses.field(
        default_factory=dict
    )
    trace: UserTrace | None = None
    titles: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def item_name(self, item_id: str) -> str:
        """Returns what to call an item."""
        return self.titles.get(item_id, item_id)


@dataclasses.dataclass(frozen=True)
class DataTable:
    """A chart's data as a table, for those who can't or won't see a chart.

    Attributes:
        header: Names of the columns.
        rows: Cells, one tuple per row.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        heading: Above it; empty if the section's heading says it all.
        svg: The drawing.
        narrow_svg: The same for a phone, if `svg` is too wide for one.
    """

    heading: str
    svg: Markup
    narrow_svg: Markup | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        anchor: Its id on the page.
        heading: What it answers.
        reading: What its charts say, in plain language, paragraph by
            paragraph.
        panels: Its charts.
        table: The same data as a table.
        lists: Titled lists of (sign, text), shown before the charts.
    """

    anchor: str
    heading: str
    reading: Sequence[str]
    panels: Sequence[Panel]
    table: DataTable
    lists: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()
