"""The rules about imports that the layers in pyproject.toml cannot say."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "callactors").rglob("*.py")
}
DOORS = {
    "aiohttp": {
        "app",
        "cli",
        "deliveries",
        "processors.http",
        "processors.sessions",
        "serve",
        "simulate",
        "testing",
        "web",
    },
    "asyncpg": {"store"},
    "nats": {"cluster"},
    "prometheus": {"web.metrics"},
    "opentelemetry": {"tracing"},
    "pocketsphinx": {"processors.transcriber"},
    "pydantic": {"cluster", "packets", "processors", "settings", "web"},
    "transitions": {"states"},
    "uvloop": {"serve"},
    "vaderSentiment": {"processors.transcriber"},
}


def names_in(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything that is imported, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(str(source), names):
                yield from (f"{source}.{alias.name}" for alias in names)


def imports_of(library: str) -> list[tuple[str, str]]:
    """Return importer and name for all that comes from *library*; pydantic_core counts as pydantic."""
    pairs = ((module, name) for module, path in MODULES.items() for name in names_in(path))
    return [(module, name) for module, name in pairs if name.partition(".")[0].partition("_")[0] == library]


def is_within(name: str, parts: Collection[str]) -> bool:
    return any(f"{name}.".startswith(f"callactors.{part}.") for part in parts)


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_only_behind_its_door(library: str) -> None:
    assert not [pair for pair in imports_of(library) if not is_within(pair[0], DOORS[library])]


def test_simulate_knows_only_the_wire() -> None:
    known = {"errors", "g711", "packets", "simulate", "vendors"}
    ours = [pair for pair in imports_of("callactors") if is_within(pair[0], {"simulate"})]
    assert not [pair for pair in ours if not is_within(pair[1], known)]


def test_no_module_imports_from_the_package_itself() -> None:
    parts = [module.removeprefix("callactors.") for module in MODULES]
    assert not [pair for pair in imports_of("callactors") if not is_within(pair[1], parts)]


def test_the_package_itself_only_hands_names_on() -> None:
    for node in ast.parse(MODULES["callactors"].read_text()).body:
        match node:
            case ast.Expr(ast.Constant(str())) | ast.ImportFrom():
                pass
            case ast.Assign([ast.Name("__all__" | "__version__")]):
                pass
            case ast.If(
                ast.Name("TYPE_CHECKING"),
                late,
                [
                    ast.Assign([ast.Name("_FRONT_END")], ast.Dict()),
                    ast.FunctionDef("__getattr__"),
                    ast.FunctionDef("__dir__"),
                ],
            ) if all(isinstance(one, ast.ImportFrom) for one in late):
                pass
            case _:
                pytest.fail(f"callactors/__init__.py does more than that in line {node.lineno}")
