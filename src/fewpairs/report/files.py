"""Writes reports into a folder: comparison.md, comparison.json, comparison.html and the overlay pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewpairs.errors import DataError, InputError
from fewpairs.report.comparison import Comparison
from fewpairs.report.markdown import comparison_markdown
from fewpairs.report.page import comparison_report, run_report
from fewpairs.safe_text import file_name
from fewpairs.writing import check_inside, replaced


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The files of a written comparison."""

    markdown: Path
    json: Path
    html: Path
    pictures: tuple[Path, ...]


def write_comparison(comparison: Comparison, folder: Path | str, *, name: str = "comparison") -> WrittenReport:
    """Writes `<name>.md`, `<name>.json`, `<name>.html` and `overlays/*.png` into `folder`, replacing earlier ones.

    The JSON refers to the pictures by their path in the folder; the HTML holds them. Raises InputError when the folder
    cannot be written.
    """
    folder = Path(folder)
    check_report_name(name)
    stored, pictures = comparison.with_overlay_files()
    contents: dict[str, bytes] = dict(pictures)
    contents[f"{name}.md"] = comparison_markdown(comparison).encode()
    contents[f"{name}.json"] = stored.to_json().encode()
    contents[f"{name}.html"] = comparison_report(comparison, folder=folder).encode()
    _write(folder, contents)
    text, data, page = (folder / f"{name}.{ending}" for ending in ("md", "json", "html"))
    return WrittenReport(text, data, page, tuple(folder / path for path in pictures))


def write_run(run: Comparison, folder: Path | str, *, name: str = "report") -> Path:
    """Writes the report of one run as `<name>.html` into `folder`, and returns its path."""
    folder = Path(folder)
    check_report_name(name)
    _write(folder, {f"{name}.html": run_report(run, folder=folder).encode()})
    return folder / f"{name}.html"


def read_comparison(file: Path | str) -> Comparison:
    """The comparison stored in a JSON file. Raises DataError when it cannot be read or is something else."""
    file = Path(file)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot read the comparison ({error.strerror})") from error
    return Comparison.from_json(text, source=str(file))


def check_report_name(name: str) -> None:
    """Raise InputError unless files in a folder can be called `name`."""
    if name != file_name(name, ".json").removesuffix(".json"):
        raise InputError(f"name={name!r} cannot be the name of a file in the folder; give letters, digits and dashes")


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    files = {folder / path: content for path, content in contents.items()}
    check_inside(folder, files)
    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replaced(file) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise InputError(f"{file}: cannot write the report ({error.strerror}); choose another folder") from error
