"""Finds the files that installed packages ship, without importing the packages."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def installed_file(package: str, path: str) -> Path | None:
    """Returns where a file of an installed package lies; None if package or file is absent.

    Args:
        package: the name under which it was installed, such as "scikit-learn".
        path: relative to site-packages.
    """
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        return None
    return found if found.is_file() else None


def first_file(folder: Path, names: list[str]) -> Path | None:
    """Returns the first of `names` that is a file in `folder`; None if none is."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
