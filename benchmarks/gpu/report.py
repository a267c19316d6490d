"""Tables of a run, in Markdown."""

import platform

import torch

from benchmarks.gpu.session import Result, Session
from liquidgen.utils.files import atomic


def write_report(session: Session) -> None:
    """Write `report.md` from the results so far."""
    lines = [f"# {device_name(session.device)}", ""]
    lines += [f"torch {torch.__version__}, Python {platform.python_version()}"]
    if session.is_rehearsal:
        lines += ["", "A rehearsal on a CPU: everything is small, and no figure means anything."]
    for part, results in by_part(session.read()).items():
        lines += ["", f"## {part}", "", *table(results)]
    with atomic(session.folder / "report.md") as file:
        file.write("\n".join([*lines, ""]).encode())


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, with its memory, or of the CPU's architecture."""
    if device.type != "cuda":
        return f"CPU, {platform.machine()}"
    card = torch.cuda.get_device_properties(device)
    return f"{card.name}, {card.total_memory / 2**30:.0f} GiB"


def by_part(results: list[Result]) -> dict[str, list[Result]]:
    """Return the results of each part, without the name of the part."""
    parts: dict[str, list[Result]] = {}
    for result in results:
        parts.setdefault(result["part"], []).append(
            {key: value for key, value in result.items() if key != "part"}
        )
    return parts


def table(results: list[Result]) -> list[str]:
    """Return a table with the keys of all results as columns."""
    columns = list(dict.fromkeys(key for result in results for key in result))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for result in results:
        lines.append(f"| {' | '.join(_cell(result.get(key)) for key in columns)} |")
    return lines


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
