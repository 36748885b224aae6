"""Reading the beginning of a table and no more."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.patience import PATIENT_SECONDS

# Arrow reads ahead; when we stop, it is waiting for a slow disk.
_PROGRAM = """
import sys, threading, time
from components.dataset_tables import TableSpec
from components.interaction_example_gen import csv_files
from components.interaction_example_gen.reading import read_batches

quick = csv_files._Stream.read
reads = []
slow_read_began = threading.Event()

def read(self, size=-1):
    reads.append(size)
    if len(reads) > 4:
        slow_read_began.set()
        time.sleep(0.5)
    return quick(self, size)

csv_files._Stream.read = read
csv_files._BLOCK_BYTES = 1 << 16
folder, delimiter, encoding = sys.argv[1:]
table = TableSpec(
    ("t.csv",), delimiter=delimiter, columns=("a", "b"), encoding=encoding
)
rows = read_batches(f"{folder}/t.csv", folder, table, ["a", "b"], "users")
assert next(rows).columns.num_rows > 100
assert slow_read_began.wait(30)
del rows
assert len(reads) < 30, "it was read to the end"
print("done")
"""


@pytest.mark.parametrize(
    ("delimiter", "encoding"),
    [("::", "utf-8"), (",", "latin-1"), (",", "utf-8")],
)
def test_a_reader_that_is_dropped_half_way_holds_up_nobody(
    tmp_path, delimiter, encoding
):
    (tmp_path / "t.csv").write_text(f"0001{delimiter}x\n" * 500_000)
    # A process of its own: who waits with the lock held, waits for ever.
    try:
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                _PROGRAM,
                str(tmp_path),
                delimiter,
                encoding,
            ],
            capture_output=True,
            text=True,
            timeout=PATIENT_SECONDS,
            cwd=Path(__file__).parents[3],
        )
    except subprocess.TimeoutExpired:
        pytest.fail("reading never came to its end")
    assert ended.stdout == "done\n", ended.stderr
