from pipeline.item_titles import load_titles
from tests.helpers.raw_examples import to_example, write_records


def test_titles_are_read_where_there_are_any(tmp_path):
    items = [
        {"item_id": "01", "display_title": "Brazil, 日本"},
        {"item_id": "1", "display_title": None},
    ]
    path = tmp_path / "Split-catalog" / "data.gz"
    write_records(path, [to_example(item) for item in items])
    assert load_titles(str(tmp_path)) == {"01": "Brazil, 日本"}
