"""Figures of every sample, on disk as they come, so that an interrupted test goes on where it stopped."""

import csv
import json
from pathlib import Path

from depthkd.metrics.depth import FORMULAS

HEADER = ["benchmark", "model", "index", "sample", *FORMULAS]
Key = tuple[str, str]  # benchmark, model


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
        self.values: dict[Key, dict[int, dict[str, float]]] = {}
        self.samples: dict[Key, dict[int, str]] = {}
        if self.table.is_file() and self.facts.is_file():
            self.identities = json.loads(self.facts.read_text())
            self._read()

    def _read(self) -> None:
        with self.table.open(newline="") as file:
            for row in csv.DictReader(file):
                try:
                    index = int(row["index"])
                    values = {name: float(row[name]) for name in FORMULAS}
                except (TypeError, ValueError, KeyError):
                    continue  # cut off, or of another version
                self._keep((row["benchmark"], row["model"]), index, row["sample"], values)

    def _keep(self, key: Key, index: int, sample: str, values: dict[str, float]) -> None:
        self.values.setdefault(key, {})[index] = values
        self.samples.setdefault(key, {})[index] = sample

    def begin(self, benchmark: str, model: str, identity: str) -> int:
        """Get ready for one model on one benchmark; returns how many samples are known already."""
        key, name = (benchmark, model), json.dumps([benchmark, model])
        if self.identities.get(name) != identity:
            self.values.pop(key, None)
            self.samples.pop(key, None)
        self.identities[name] = identity
        self.save()
        return len(self.values.get(key, {}))

    def save(self) -> None:
        """Write the whole table, pair by pair and in the samples' order, under a temporary name first."""
        temporary = self.table.with_name(f".{self.table.name}.writing")
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for key, rows in self.values.items():
                for index in sorted(rows):
                    writer.writerow([*key, index, self.samples[key][index], *rows[index].values()])
        self.facts.write_text(json.dumps(self.identities, indent=2) + "\n")
        temporary.replace(self.table)

    def add(self, benchmark: str, model: str, index: int, sample: str, values: dict[str, float]) -> None:
        """Keep one sample's figures; they are on disk when this returns."""
        self._keep((benchmark, model), index, sample, values)
        with self.table.open("a", newline="") as file:
            csv.writer(file).writerow([benchmark, model, index, sample, *values.values()])

    def of(self, benchmark: str, model: str) -> dict[int, dict[str, float]]:
        """Index -> figures, in the samples' order."""
        return dict(sorted(self.values.get((benchmark, model), {}).items()))

    def names(self, benchmark: str, model: str) -> dict[int, str]:
        """Index -> the sample's name."""
        return self.samples.get((benchmark, model), {})
