"""The world of the guard's stories; see tests/world.py."""

from world import applicants, guard, strict, template, world

__all__ = ["applicants", "guard", "strict", "template", "world"]
