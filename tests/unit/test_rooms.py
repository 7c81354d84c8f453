"""The order of the reader's rooms, read from their import statements."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import memory_leak_stress_test as instrument
import stress_report
from stress_report import ROOMS

FOLDER = Path(stress_report.__file__).parent
COMMAND = FOLDER.with_name("analyze_stress_test.py")
ONLY_IN = {"matplotlib": "charts", "rich": "terminal", "urllib": "markdown"}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of everything a file imports, wherever in it; the name is empty for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by its own place"
            yield from ((node.module or "", alias.name) for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    return {module.partition(".")[2] or name for module, name in imports(path)
            if module.partition(".")[0] == stress_report.__name__}


def test_every_file_is_a_room_in_the_list() -> None:
    assert sorted(ROOMS) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    assert rooms_imported(FOLDER / f"{room}.py") <= set(ROOMS[: ROOMS.index(room)])


@pytest.mark.parametrize("path", [*(FOLDER / f"{room}.py" for room in ROOMS), COMMAND], ids=lambda path: path.stem)
def test_only_what_the_instrument_offers_is_taken_from_it(path: Path) -> None:
    taken = {name for module, name in imports(path) if module == instrument.__name__}
    assert taken <= set(instrument.__all__)
    assert not any(module == COMMAND.stem for module, _ in imports(path)), "the command is above all rooms"


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_has_one_user(package: str) -> None:
    users = {path.stem for path in [*FOLDER.glob("*.py"), COMMAND]
             if any(module.partition(".")[0] == package for module, _ in imports(path))}
    assert users == {ONLY_IN[package]}


def test_the_instrument_knows_nothing_of_the_reader() -> None:
    assert rooms_imported(Path(instrument.__file__)) == set()


def test_all_that_the_instrument_offers_is_there() -> None:
    assert [name for name in instrument.__all__ if not hasattr(instrument, name)] == []
