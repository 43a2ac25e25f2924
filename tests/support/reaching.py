"""Which modules a test reaches: by what is imported, by it and by them, and by the programs whose names they say."""

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path


def modules_below(*folders: Path) -> dict[str, Path]:
    """Every module of these folders by its name; a package is its `__init__.py`."""
    found = {}
    for folder in folders:
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def reached(files: Collection[Path], modules: Mapping[str, Path]) -> dict[Path, set[str]]:
    """The modules to which a chain of imports and started programs leads from each of these files."""
    names = {module: set(_said_in(file, modules)) for module, file in modules.items()}
    return {file: _followed(set(_said_in(file, modules)), names) for file in sorted(files)}


def _followed(first: set[str], names: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    found = first
    while found:
        reached |= found
        found = {name for module in found for name in names.get(module, ())} - reached
    return reached


def _said_in(file: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """What a file imports, and the programs of a package that it names in a string, as `python -m` is given it."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import():
                yield from (each.name for each in node.names)
            case ast.ImportFrom(module=str(module)):
                yield module
                yield from (f"{module}.{each.name}" for each in node.names)
            case ast.Constant(value=str(name)) if name:
                below = f"{name}."
                yield from (each for each in modules if each.startswith(below) and each.endswith(".__main__"))
