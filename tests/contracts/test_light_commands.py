"""Help and lists come quickly: what they do not need is not imported, and a recipe imports its own kind alone."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from fewpairs.errors import InputError
from fewpairs.kinds import KINDS, experiment_kind
from fewpairs.kinds.kind import Experiment
from fewpairs.recipes import RECIPES
from fewpairs.recipes.linglo import ABLATIONS

HEAVY = ("torch", "numpy", "timm", "PIL", "matplotlib", "yaml")  # pydantic is not among them: typer parses with it


def imported(*arguments: str) -> set[str]:
    """The modules that the command `fewpairs ARGUMENTS` leaves loaded, and their packages."""
    code = (
        "import sys, contextlib, io\n"
        "from fewpairs.cli import main\n"
        f"sys.argv = ['fewpairs', *{list(arguments)!r}]\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main()\n"
        "print(*sys.modules)"
    )
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("train", "--list"), ("predict", "--help")])
def test_light_commands_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = imported(*arguments)
    assert "fewpairs.cli" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    ("recipe", "kind"), [("setr_kv_small", "segmentation"), ("vit_pico_fashion", "classification")]
)
def test_a_recipe_imports_its_own_kind_alone(recipe: str, kind: str) -> None:
    loaded = imported("train", recipe, "--print-config")
    modules = {name for name in loaded if name.startswith("fewpairs.kinds.") and not name.endswith(".flags")}
    kinds = {name.split(".")[2] for name in modules if name.count(".") > 2}
    assert kinds == {kind}


def test_recipes_without_arguments_are_listed_by_the_first_line_of_their_docstring() -> None:
    alone = {name: recipe for name, recipe in RECIPES.items() if not recipe.arguments}
    assert len(alone) == 8
    for recipe in alone.values():
        module, function = recipe.source.split(":")
        made = getattr(import_module(f"fewpairs.recipes.{module}"), function)
        assert made.__doc__.partition("\n")[0] == recipe.summary


def test_every_ablation_is_a_recipe() -> None:
    calls = [recipe.arguments for recipe in RECIPES.values() if recipe.source == "linglo:on_fashion"]
    assert {ending for _, *endings in calls for ending in endings} == set(ABLATIONS)


@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_found_by_their_name(name: str) -> None:
    kind = experiment_kind(name)
    assert issubclass(kind, Experiment)
    assert kind.kind == name


@pytest.mark.parametrize("name", ["segmentaton", ["segmentation"]])
def test_an_unknown_kind_is_named(name: object) -> None:
    with pytest.raises(InputError, match="is no kind of experiment; did you mean 'segmentation'"):
        experiment_kind(name)  # type: ignore[arg-type]
