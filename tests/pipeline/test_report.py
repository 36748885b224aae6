import dataclasses
import html.parser
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from rich.console import Console

from pipeline.closing_table import print_closing_table
from pipeline.cold_stream import ColdStream
from pipeline.example_user import trace_example_user
from pipeline.replay import replay
from pipeline.replay_session import Session
from pipeline.report import (
    DatasetNotes,
    ReportInputs,
    render_report,
    write_report,
)
from pipeline.report.curves import figures_by_window
from serving.contract.intervals import Interval
from serving.contract.regimes import REGIMES
from tests.helpers.cold_world import RecorderClient, make_stream, make_user
from tests.pipeline.test_summary import make_result, summary_of

WEIRD = "<script>alert('x')</script> & \"quotes\" ♥ 日本語"
NOTES = DatasetNotes("toy", "A toy", "CC0", WEIRD)


def _inputs(stream=None, **changes):
    stream = stream or make_stream()
    client = RecorderClient()
    session = Session(client)
    result = replay(client, stream, session=session)
    return ReportInputs(
        summary=summary_of(result),
        result=result,
        notes=NOTES,
        few_shot_auc={
            "joint": {0: Interval(0.7, 0.69, 0.71)},
            "adaptive": {
                k: Interval(0.7 + k / 100, 0.69, 0.75) for k in (0, 5)
            },
        },
        trace=trace_example_user(session, stream, result),
        **changes,
    )


class _Page(html.parser.HTMLParser):
    """Collects tags, and fails on ones that are never closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.urls = [], [], []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_report_is_well_formed_and_needs_nothing_from_outside():
    page = _Page(render_report(_inputs()))
    assert "script" not in page.tags
    assert all(url.startswith(("#", "data:")) for url in page.urls)
    assert page.tags.count("section") == 8


def test_every_drawing_is_xml_with_a_title_and_a_description():
    drawings = re.findall(r"<svg.*?</svg>", render_report(_inputs()), re.S)
    assert len(drawings) == 12
    ids = []
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root[0].tag == "title"
        assert root[1].tag == "desc"
        assert root[0].text
        assert root[1].text
        ids.append(root[0].get("id"))
        assert "nan" not in drawing.replace(root[1].text, "").lower()
    assert len(set(ids)) == len(ids)


def test_a_single_user_is_drawn_without_intervals():
    user = max(make_stream().users, key=lambda user: len(user.item_ids))
    inputs = _inputs(ColdStream((user,)))
    assert np.isnan(inputs.summary.lift["offline"].low)
    text = render_report(inputs)
    _Page(text)
    assert "nan to nan" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        assert '="nan' not in drawing.lower()
    console = Console(file=io.StringIO(), width=200)
    print_closing_table(inputs.summary, where={}, console=console)
    assert "nan" not in console.file.getvalue()


def test_titles_ids_and_notes_are_escaped():
    stream = make_stream()
    users = [
        dataclasses.replace(
            user, user_id=f"</svg>{WEIRD}", features={"tag": (WEIRD,)}
        )
        for user in stream.users
    ]
    items = {item for user in users for item in user.item_ids}
    text = render_report(
        _inputs(ColdStream(tuple(users)), titles=dict.fromkeys(items, WEIRD))
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    _Page(text)


def test_items_without_a_title_go_by_their_id():
    inputs = _inputs()
    assert inputs.trace.candidates[0] in render_report(inputs)


def test_report_without_example_or_few_shot_leaves_their_sections_out():
    inputs = dataclasses.replace(_inputs(), trace=None, few_shot_auc={})
    page = _Page(render_report(inputs))
    assert page.tags.count("section") == 6


def test_windows_of_one_class_have_no_figure_and_break_the_line():
    result = make_result()
    label = np.where(result.rows.window == 1, 1.0, result.rows.label)
    result = dataclasses.replace(
        result, rows=dataclasses.replace(result.rows, label=label)
    )
    by_window = figures_by_window(result)
    for regime in REGIMES:
        values = [i.value for i in by_window["auc"][regime]]
        assert np.isnan(values).tolist() == [False, True, False]
    inputs = dataclasses.replace(
        _inputs(), result=result, summary=summary_of(result)
    )
    _Page(render_report(inputs))


def test_users_with_fewer_than_eight_windows_are_reported():
    inputs = _inputs(ColdStream((make_user("a", 33, 0), make_user("b", 31, 9))))
    text = render_report(inputs)
    assert "31-40" in text
    assert "41-50" not in text


def test_degraded_answers_are_said_at_the_top():
    inputs = _inputs()
    counts = {**inputs.summary.counts, "degraded": 12}
    summary = dataclasses.replace(inputs.summary, counts=counts)
    text = render_report(dataclasses.replace(inputs, summary=summary))
    assert "12 answers were degraded" in text


def test_report_is_written_whole(tmp_path):
    write_report(_inputs(), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_example_candidates_are_never_learned_from():
    stream = make_stream()
    client = RecorderClient()
    session = Session(client, token="t")
    result = replay(client, stream, session=session)
    before = len(client.calls)
    trace = trace_example_user(session, stream, result)
    learned = {
        item
        for call in client.calls[before:]
        if call.kind == "feedback"
        for item in call.item_ids
    }
    assert learned
    assert not learned & set(trace.candidates)
    assert set(trace.labels) == {0.0, 1.0}
    assert (
        trace.events_seen.tolist()
        == [0, 10, 20, 30, 40, 50, 60, 70, 80][: len(trace.events_seen)]
    )
    assert np.sort(trace.ranks, axis=1).tolist() == [
        list(range(1, len(trace.candidates) + 1))
    ] * len(trace.events_seen)


def test_no_example_when_no_last_window_holds_both_classes():
    user = dataclasses.replace(
        make_user("u", 35, 0), labels=np.ones(35, np.float32)
    )
    stream = ColdStream((user,))
    client = RecorderClient()
    session = Session(client)
    result = replay(client, stream, session=session)
    assert trace_example_user(session, stream, result) is None
