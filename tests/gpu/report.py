"""What was found, as JSON and as a table; on disk after each part."""

import json
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from depthkd.formats.whole_files import write_whole
from depthkd.versions import installed

PACKAGES = ("torch", "lightning", "transformers", "diffusers", "timm", "torchmetrics", "onnxruntime")


@dataclass(frozen=True)
class Row:
    """One metric.

    Args:
        what: was looked at.
        metric: what was found, in words.
        wanted: what it should be, in words; empty where there is nothing to compare with.
        ok: whether it is; None where nothing is wanted, or the machine cannot tell.
    """

    what: str
    metric: str
    wanted: str = ""
    ok: bool | None = None


def compared(what: str, ours: float, wanted: float, tolerance: float) -> Row:
    """Two numbers that should agree but for rounding."""
    difference = abs(ours - wanted) / max(abs(wanted), 1e-12)
    metric = f"{ours:.6g}, {difference:.1e} from {wanted:.6g}"
    return Row(what, metric, f"at most {tolerance:.0e}", bool(difference <= tolerance))


def machine() -> dict[str, str]:
    """Device, driver and versions."""
    facts = {"device": platform.processor() or platform.machine(), "driver": "none"}
    if torch.cuda.is_available():
        facts["device"] = torch.cuda.get_device_name()
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30)
        facts["driver"] = said.stdout.strip() if said.returncode == 0 else "unknown"
        facts["CUDA"] = str(torch.version.cuda)
    facts["python"] = platform.python_version()
    return facts | {package: installed(package) for package in PACKAGES}


@dataclass
class Report:
    """Rows by part.

    Args:
        folder: of report.json and report.md.
        facts: the machine's.
        parts: name -> seconds that it took, and its rows.
    """

    folder: Path
    facts: dict[str, str]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, seconds: float, rows: list[Row]) -> None:
        """Keep what a part found, and write all of it."""
        self.parts[name] = {"seconds": round(seconds, 1), "rows": [asdict(row) for row in rows]}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "report.json", json.dumps(asdict(self) | {"folder": ""}, indent=1))
        write_whole(self.folder / "report.md", self.markdown())

    @property
    def failed(self) -> list[str]:
        """Parts and rows that are not as they should be."""
        return [
            f"{name}: {row['what']}"
            for name, part in self.parts.items()
            for row in part["rows"]
            if row["ok"] is False
        ]

    def markdown(self) -> str:
        """The table."""
        lines = [", ".join(f"{name} {value}" for name, value in self.facts.items()), ""]
        lines += ["| part | what | found | wanted | |", "|---|---|---|---|---|"]
        for name, part in self.parts.items():
            for row in part["rows"]:
                verdict = {True: "ok", False: "**FAILED**", None: ""}[row["ok"]]
                cells = [name, row["what"], row["metric"], row["wanted"], verdict]
                lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        return "\n".join(lines) + "\n"
