"""How every report of these benchmarks is called and written."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parent / "reports"


def dated(name: str) -> Path:
    """Return where today's report of this name goes."""
    return REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"


def write(report: Path, *, about: Mapping[str, Any], measured: Mapping[str, Any], indent: int = 2) -> None:
    """Write what was measured until now, and where it comes from."""
    report.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": about, "measured": measured}, indent=indent) + "\n"
    report.write_text(text, encoding="utf-8")
