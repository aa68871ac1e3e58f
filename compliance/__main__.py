"""``python -m compliance`` is the command ``compliance``."""

from __future__ import annotations

from compliance.cli import main

main()
