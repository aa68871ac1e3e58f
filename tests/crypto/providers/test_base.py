"""What the providers share: the authenticated context, and addresses that keep keys encrypted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto.providers.base import Remote, another, encode_context, require_tls
from compliance.errors import ConfigurationError, StoreError

CONTEXTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)


@given(CONTEXTS, CONTEXTS)
def test_two_contexts_have_the_same_bytes_only_if_they_are_the_same(one, other):
    assert (encode_context(one) == encode_context(other)) == (one == other)


@given(CONTEXTS)
def test_the_order_of_a_context_does_not_matter(context):
    assert encode_context(dict(reversed(context.items()))) == encode_context(context)


def test_the_bytes_of_a_context_never_change():
    """They are part of every wrapped key: another form would lock all of them."""
    context = {"tenant": "bänk", "purpose": "compliance domain key"}
    head, _, text = encode_context(context).partition(b"\0")
    assert head == b"compliance master context v1"
    assert text == rb'{"purpose":"compliance domain key","tenant":"b\u00e4nk"}'
    assert json.loads(text) == context


@pytest.mark.parametrize(
    "url",
    ["https://vault.test", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost:8200"],
)
def test_an_address_over_tls_or_on_this_machine_will_do(url):
    assert require_tls(url, "X") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "http://localhost.test",
        "http://127.0.0.1.test",
        "https:///x",
        "",
        "file:///x",
    ],
)
def test_any_other_address_will_not(url):
    with pytest.raises(ConfigurationError, match="X must start with https"):
        require_tls(url, "X")


def test_the_error_names_both_masters():
    assert "'file:aa'" in str(another("file:aa", "file:bb"))
    assert "'file:bb'" in str(another("file:aa", "file:bb"))
    assert "first version" in str(another(None, "file:bb"))


class Broken(Remote):
    def _connect(self):
        return object()

    def _explain(self, error):
        return StoreError(f"explained {type(error).__name__}")


def test_an_error_of_a_client_library_carries_nothing_into_ours():
    def request(_client):
        raise KeyError("a token that nobody may see")

    with pytest.raises(StoreError, match="explained KeyError") as caught:
        Broken("broken:1")._ask(request)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_interrupt_is_not_explained_away():
    def request(_client):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Broken("broken:1")._ask(request)
