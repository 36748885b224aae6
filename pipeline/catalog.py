"""The datasets that come with Adaptower, and the specs that users bring."""

import pathlib

import yaml

from components.dataset_spec import DatasetSpec
from components.errors import DatasetSpecError
from components.spec_section import closest

_SHIPPED = pathlib.Path(__file__).parent / "datasets"


def list_datasets() -> tuple[str, ...]:
    """Returns the names of the datasets that come with the project."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def load_dataset_spec(name_or_path: str) -> DatasetSpec:
    """Reads the spec of a shipped dataset, or one of the user's own.

    Args:
        name_or_path: A name of `list_datasets`, or the path of a YAML file.

    Raises:
        DatasetSpecError: There is no such dataset or file, it is not YAML,
            or it doesn't say what a spec must.
    """
    shipped = _SHIPPED / f"{name_or_path}.yaml"
    path = pathlib.Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and shipped.is_file():
        path = shipped
    if not path.is_file():
        names = list_datasets()
        raise DatasetSpecError(
            f"There is no dataset {name_or_path!r}. Give one of "
            f"{', '.join(names)}, or the path of a YAML spec."
            + closest(name_or_path, names)
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetSpecError(f"{path}: this is not YAML: {error}") from error
    return DatasetSpec.from_dict(
        values, str(path), folder=str(path.resolve().parent)
    )
