r"""Write measured numbers into docs/results.md; nobody types them.

    python bench/results.py bench loading epoch index startup
    python bench/results.py study kermany runs/kermany/results.json --asked ">= 0.99"
    python bench/results.py study shift runs/shift/results.json \
        --page docs/explanation/small-preset.md
    python bench/results.py tables pocus runs/pocus --titles "AUROC" "Gain over random-groups"
    python bench/results.py metrics stain-overfit runs/overfit --asked "PSNR: >= 26 dB"

``bench`` runs scripts of this folder one after the other and writes the table of speeds.
``study`` takes the results.json of a ``medglean study`` and writes the table of that name; the
number asked for stands beside its first row. ``tables`` takes tables of a run's report, by how
their titles begin; ``metrics`` takes its metrics, with what was asked for by name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medglean.runs.records import records
from medglean.runs.report import Metric
from medglean.runs.tables import markdown_table, results_table, update_block

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "results.md"
KEPT = HERE.parent / "docs" / "results.json"


def measure(name: str) -> list[dict[str, Any]]:
    """Run a benchmark and return its records; what it says goes to the terminal."""
    command = [sys.executable, str(HERE / f"{name}.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode not in (0, 4):  # 4: it ran, and its aim was not met
        raise SystemExit(f"bench/{name}.py failed with status {done.returncode}.")
    records: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["records"]
    machine = f"{os.cpu_count()} CPU cores"
    return [{**r, "command": f"python bench/{name}.py", "machine": machine} for r in records]


def report_tables(run: Path, titles: Sequence[str]) -> dict[str, Any]:
    """Return some tables of a run's report with the command that made them."""
    report = json.loads((run / "report.json").read_text())
    command = report["provenance"]["command"]
    words = command.split() if isinstance(command, str) else command
    words = ["medglean" if word.endswith("medglean") else word for word in words]
    tables = [
        {key: table[key] for key in ("title", "columns", "rows", "note")}
        for table in report["tables"]
        if any(table["title"].startswith(title) for title in titles)
    ]
    return {
        "sentence": report["sentence"],
        "command": " ".join(word for word in words if word != "--resume"),
        "machine": f"{report['provenance']['cpu']['count']} CPU cores",
        "tables": tables,
    }


def report_metrics(run: Path, asked: Sequence[str]) -> list[dict[str, Any]]:
    """Return the metrics of a run's report as records, with what was asked for by name."""
    report = json.loads((run / "report.json").read_text())
    wanted = dict(text.split(": ", 1) for text in asked)
    found = records(
        [Metric(**metric) for metric in report["metrics"]],
        report["provenance"]["command"],
        cores=report["provenance"]["cpu"]["count"],
    )
    return [{**record, "asked": wanted.get(record["name"], "")} for record in found]


def markdown_of(told: dict[str, Any]) -> str:
    """Return the tables of a report as Markdown."""
    parts = [told["sentence"], f"`{told['command']}`, {told['machine']}."]
    for table in told["tables"]:
        parts += [
            f"**{table['title']}.**",
            markdown_table(table["columns"], table["rows"]),
            table["note"],
        ]
    return "\n\n".join(part for part in parts if part)


def main() -> int:
    """Update the page and the numbers that it is made from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["bench", "study", "tables", "metrics"])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--asked", nargs="+", default=[""])
    parser.add_argument("--titles", nargs="+", default=["AUROC", "Jaccard", "Gain", "How few"])
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if arguments.kind == "bench":
        table = kept.setdefault("speed", {})
        for name in arguments.names:
            table[name] = measure(name)
        update_block(PAGE, "speed", results_table(r for name in table for r in table[name]))
    elif arguments.kind == "tables":
        name, run = arguments.names
        kept[name] = report_tables(Path(run), arguments.titles)
        update_block(arguments.page, name, markdown_of(kept[name]))
    elif arguments.kind == "metrics":
        name, run = arguments.names
        kept[name] = report_metrics(Path(run), [text for text in arguments.asked if text])
        update_block(arguments.page, name, results_table(kept[name]))
    else:
        name, file = arguments.names
        kept[name] = json.loads(Path(file).read_text())
        kept[name][0]["asked"] = arguments.asked[0]
        update_block(arguments.page, name, results_table(kept[name]))
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
