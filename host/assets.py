"""Files that come with the package."""

from __future__ import annotations

from pathlib import Path

from host.errors import UserError

ASSETS = Path(__file__).parent / "assets"
DEMO_STEMS = ("vocals", "drums", "bass", "other")


class AssetError(UserError):
    """A bundled file that this installation lacks."""


def asset(relative: str) -> Path:
    """The path of a bundled file. Errors: AssetError."""
    path = ASSETS / relative
    if not path.is_file():
        raise AssetError(f"{path} is missing from this installation: install stembridge again.")
    return path


def demo_stem_files() -> dict[str, Path]:
    """The truth stems of the bundled song by name; their sum is the mix. Errors: AssetError."""
    return {name: asset(f"demo/{name}.ogg") for name in DEMO_STEMS}
