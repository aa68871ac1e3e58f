"""The closed handle: data that was loaded for no purpose yet."""

from __future__ import annotations

from typing import Any, NoReturn


class Handle:
    """A registered data set outside an activity: it shows its name and opens nothing.

    An activity opens it when it is passed as an argument or to ``run.open``; the purpose
    of the activity then decides rows, columns and keys. Anything else is refused, so that
    code that forgets the activity stops instead of reading.
    """

    __slots__ = ("_content", "dataset", "policy")

    dataset: str
    policy: str

    def __init__(self, dataset: str, policy: str, content: Any) -> None:
        for name, value in (("dataset", dataset), ("policy", policy), ("_content", content)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<closed data set {self.dataset!r}, policy {self.policy[:12]}>"

    def __getattribute__(self, name: str) -> Any:
        if name == "_content":
            self._refuse()
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __setattr__(self, _name: str, _value: object) -> NoReturn:
        self._refuse()  # under another name the rows would pass by another data set's rules

    def __delattr__(self, _name: str) -> NoReturn:
        self._refuse()

    def __getitem__(self, _key: object) -> NoReturn:
        self._refuse()

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __len__(self) -> NoReturn:  # noqa: PLE0303  it refuses
        self._refuse()

    def __reduce__(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        from compliance.errors import UnregisteredData

        raise UnregisteredData(
            f"data set {self.dataset!r} is closed: pass it to a guarded function, or open it "
            f"with `with guard.activity(...) as run: run.open(...)`"
        )


def content_of(handle: Handle) -> Any:
    """Return what the handle holds; for the guard alone, which then runs the data phases."""
    return object.__getattribute__(handle, "_content")
