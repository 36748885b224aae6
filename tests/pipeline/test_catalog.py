"""The shipped specs, and reading a spec by name or path."""

import pytest

from components.dataset_spec import DatasetSpec
from components.errors import DatasetSpecError
from pipeline.catalog import list_datasets, load_dataset_spec
from pipeline.conversions import CONVERSIONS

OWN_SPEC = """
name: clicks
interactions:
  files: clicks.csv
  user: u
  item: i
  timestamp: {column: t, format: iso8601}
  label: {implicit: {}}
"""


@pytest.mark.parametrize("name", list_datasets())
def test_shipped_spec_is_complete(name):
    spec = load_dataset_spec(name)
    assert spec.name == name
    assert DatasetSpec.from_json(spec.to_json()) == spec
    assert spec.licence
    assert spec.user_features
    assert spec.item_features
    files = {name for name, _ in spec.fetch.sha256}
    tables = (spec.interactions, spec.users.table, spec.items.table)
    assert files == {file for table in tables for file in table.files}
    for source in spec.fetch.sources:
        assert not source.convert or source.convert in CONVERSIONS


def test_own_spec_is_read_by_path_and_knows_its_folder(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(OWN_SPEC)
    spec = load_dataset_spec(str(path))
    assert (spec.name, spec.folder) == ("clicks", str(tmp_path))
    assert spec.label.negatives == 4


def test_unknown_name_suggests_the_closest_dataset():
    with pytest.raises(DatasetSpecError, match="'movielens-100k'\\?"):
        load_dataset_spec("movielens100k")


@pytest.mark.parametrize("text", ["a: [1", "just text", "", "a: \x00"])
def test_what_is_not_a_yaml_mapping_is_an_error_with_the_path(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(DatasetSpecError, match=r"broken\.yaml"):
        load_dataset_spec(str(path))
