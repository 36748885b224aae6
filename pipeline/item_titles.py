"""What to call each item, read from the pipeline's own catalog."""

from pathlib import Path

from pipeline.raw_examples import as_text, list_column, record_batches


def load_titles(catalog_dir: str) -> dict[str, str]:
    """Reads what to call each item when showing it to a person.

    Args:
        catalog_dir: URI of InteractionExampleGen's `catalog` artifact.

    Returns:
        `display_title` by item id; items without one are absent.
    """
    titles = {}
    for path in sorted(Path(catalog_dir).rglob("*.gz")):
        for batch in record_batches(path):
            items = list_column(batch, "item_id")
            names = list_column(batch, "display_title")
            for (item_id,), name in zip(items, names, strict=True):
                if name and name[0]:
                    titles[as_text(item_id)] = as_text(name[0])
    return titles
