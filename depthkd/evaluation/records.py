"""Metrics of every sample, on disk as they come, so that an interrupted test goes on where it stopped."""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

from depthkd.evaluation.means import FACTS
from depthkd.formats.whole_files import write_whole
from depthkd.metrics.catalogue import MetricSet, names_of

COLUMNS = [*names_of(MetricSet), *FACTS]
HEADER = ["benchmark", "model", "index", "sample", "group", "trained_on", "fault", "run_at", *COLUMNS]
Key = tuple[str, str]  # benchmark, model


@dataclass(frozen=True)
class SampleRecord:
    """What is known of one model on one sample.

    Args:
        sample: its name.
        values: metric, or fact -> value.
        group: the part of the benchmark that it belongs to.
        trained_on: whether the model was trained on this very image.
        fault: a sentence about a prediction that cannot be depth, such as one with NaN.
        run_at: height and width at which the model ran; None: only it knows, or it looks at nothing.
    """

    sample: str
    values: dict[str, float] = field(default_factory=dict)
    group: str = ""
    trained_on: bool = False
    fault: str = ""
    run_at: tuple[int, int] | None = None

    def cells(self) -> list[str | float]:
        """As per_sample.csv has them, after the benchmark, the model and the index."""
        metrics = [self.values.get(name, "") for name in COLUMNS]
        run_at = "x".join(str(side) for side in self.run_at or ())
        return [self.sample, self.group, "yes" if self.trained_on else "", self.fault, run_at, *metrics]


class Records:
    """per_sample.csv of a result folder, and per_sample.json: what its rows were measured with.

    Rows of an earlier test in the folder are taken up where the benchmark's data and settings, the
    protocol and the model are the same, and dropped where they are not. A row that was cut off is
    measured again.

    Args:
        folder: of the results; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self.table, self.facts = folder / "per_sample.csv", folder / "per_sample.json"
        self.identities: dict[str, str] = {}
        self._rows: dict[Key, dict[int, SampleRecord]] = {}
        if self.table.is_file() and self.facts.is_file():
            self.identities = json.loads(self.facts.read_text())
            self._read()

    def _read(self) -> None:
        with self.table.open(newline="") as file:
            for row in csv.DictReader(file):
                try:
                    index = int(row["index"])
                    values = {name: float(row[name]) for name in COLUMNS if row[name] != ""}
                    fault = row["fault"]
                    key = row["benchmark"], row["model"]
                    trained_on, run_at = row["trained_on"] == "yes", _size(row["run_at"])
                    found = SampleRecord(row["sample"], values, row["group"], trained_on, fault, run_at)
                except (TypeError, ValueError, KeyError):
                    continue  # cut off, or of another version
                self._rows.setdefault(key, {})[index] = found

    def begin(self, benchmark: str, model: str, identity: str) -> int:
        """Get ready for one model on one benchmark; returns how many samples are known already."""
        key, name = (benchmark, model), json.dumps([benchmark, model])
        if self.identities.get(name) != identity:
            self._rows.pop(key, None)
        self.identities[name] = identity
        self.save()
        return len(self._rows.get(key, {}))

    def save(self) -> None:
        """Write the whole table, pair by pair and in the samples' order, and what it was measured with."""
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(HEADER)
        for key, rows in self._rows.items():
            for index in sorted(rows):
                writer.writerow([*key, index, *rows[index].cells()])
        # The table first: a kill in between must not leave old rows under a new identity.
        write_whole(self.table, table.getvalue())
        write_whole(self.facts, json.dumps(self.identities, indent=2) + "\n")

    def add(self, benchmark: str, model: str, index: int, row: SampleRecord) -> None:
        """Keep one sample's metrics; they are on disk when this returns."""
        key = benchmark, model
        self._rows.setdefault(key, {})[index] = row
        with self.table.open("a", newline="") as file:
            csv.writer(file).writerow([*key, index, *row.cells()])

    def rows(self, benchmark: str, model: str) -> dict[int, SampleRecord]:
        """Index -> row, in the samples' order."""
        return dict(sorted(self._rows.get((benchmark, model), {}).items()))

    def of(self, benchmark: str, model: str) -> dict[int, dict[str, float]]:
        """Index -> metrics, in the samples' order."""
        return {index: row.values for index, row in self.rows(benchmark, model).items()}


def _size(cell: str) -> tuple[int, int] | None:
    if not cell:
        return None
    height, width = cell.split("x")
    return int(height), int(width)
