"""Imports `byzbench` from the checkout that holds this file, whatever is installed: a modified copy tests itself."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

from tests.golden.pinned import CHECKOUT


class CheckoutFinder(MetaPathFinder):
    """Finds the packages of a checkout in the folders that its pyproject.toml names."""

    def __init__(self) -> None:
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
        folders = {"byzbench": "byzbench", **project["tool"]["setuptools"]["package-dir"]}
        self._folders = {package: CHECKOUT / folder for package, folder in folders.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package of the checkout is."""
        folder = self._folders.get(fullname)
        if folder is None:
            return None
        return spec_from_file_location(fullname, folder / "__init__.py", submodule_search_locations=[str(folder)])


def use_checkout() -> None:
    """Make all later imports of byzbench use the checkout."""
    sys.meta_path.insert(0, CheckoutFinder())
