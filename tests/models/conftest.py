"""What every test of sealed models stands on."""

import pytest
from models.vaults import seal

from compliance.models import formats


@pytest.fixture(autouse=True)
def parsed(monkeypatch):
    """Record what reaches the parser."""
    seen = []
    parse = formats.parse

    def recording(name, data, **options):
        seen.append(data)
        return parse(name, data, **options)

    monkeypatch.setattr(formats, "parse", recording)
    return seen


@pytest.fixture
def home(tmp_path):
    seal(tmp_path)
    return tmp_path / "scorer" / "000001"
