"""The last section of a report: how a comparison was measured, as pairs of a term and its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison
from fewpairs.scoring.verdict import LEAST_SEEDS, LEAST_UNITS

_CLASSES = 30
"""The most class names that are listed."""
_STEP = "time of one training step: median over the repeats, and their quartiles"


def methods(comparison: Comparison) -> list[tuple[str, str]]:
    """Pairs of a term and a text that is not empty; the lines of a text are separate items."""
    data = comparison.data
    memory = list({row.peak_of: None for row in comparison.rows if row.peak_of})
    names = [*score_text.macro_scores(comparison.rows)]
    meanings = [f"{score_text.describe(name).title}: {score_text.describe(name).meaning}" for name in names]
    units = comparison.words.units
    terms = [
        ("Command", comparison.command),
        ("Commit", comparison.commit),
        ("Date", comparison.date),
        ("Hardware", comparison.hardware),
        ("Versions", ", ".join(f"{name} {version}" for name, version in comparison.versions.items())),
        ("Data", data.description),
        (units.capitalize(), ", ".join(f"{name} {count}" for name, count in data.cases.items())),
        ("Split", data.split),
        ("Classes", _classes(comparison.classes)),
        ("Seeds", ", ".join(map(str, comparison.seeds))),
        ("Monitored", f"{score_text.describe(comparison.monitor).title} on the validation {units}, during training"),
        ("Scores", "\n".join(text for text in meanings if not text.endswith(": "))),
        ("Empty masks", comparison.empty_rule),
        ("Intervals", _intervals(comparison)),
        ("Verdicts", _verdicts(comparison)),
        ("MACs", "multiply-adds of one forward pass of one image at the training size"),
        (
            "Step",
            _STEP if any(r.step_ms for r in comparison.rows) else "",
        ),
        ("Memory", "; ".join(memory)),
        ("Settings", "\n".join(f"{name} = {value}" for name, value in flatten(comparison.settings))),
    ]
    return [(term, text) for term, text in terms if text]


def flatten(settings: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as `a.b.c` and their values as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ", ".join(map(str, value))
        else:
            yield prefix + name, str(value)


def _intervals(comparison: Comparison) -> str:
    if not any(estimate.low is not None for row in comparison.rows for estimate in row.scores.values()):
        return ""
    over = comparison.resampled
    text = f"{100 * comparison.confidence:g} % bootstrap over {over} ({comparison.resamples} resamples)"
    return f"{text}: {known}" if (known := comparison.words.resampling.get(over)) else text


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_CLASSES])
    return shown if len(names) <= _CLASSES else f"{shown}, ... ({len(names)} in all)"


def _verdicts(comparison: Comparison) -> str:
    found = [item for row in comparison.rows for item in (row.differences or {}).values()]
    if not found:
        return ""
    text = (
        "better or worse only where the interval of the paired difference excludes zero; non-inferior where it "
        f"excludes a loss of the margin ({score_text.margin(comparison.headline, comparison.margin)} for "
        f"{score_text.describe(comparison.headline).title}); inconclusive otherwise. These words need at least "
        f"{LEAST_SEEDS} seeds a side and {LEAST_UNITS} {comparison.words.units}; with fewer a verdict is about these "
        "runs"
    )
    if all(item.sure_low is None for item in found):
        return text
    return (
        f"{text}. Ends of intervals are moved outwards by three standard errors of resampling before they are read, "
        "and more resamples are drawn as long as a reading hangs on them"
    )
