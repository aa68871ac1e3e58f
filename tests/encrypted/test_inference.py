"""Scoring on ciphertexts: the scores agree, the server cannot read, and bad messages are refused."""

import contextlib
import importlib
import struct

import numpy as np
import pytest
import tenseal as ts
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.encrypted import inference, messages
from compliance.encrypted.inference import SLOTS, Client, Server, sigmoid
from compliance.encrypted.linear import LinearModel
from compliance.errors import AccessDenied, InputError, MissingExtra

WEIGHTS = np.array([0.8, -1.5, 0.0])
MODEL = LinearModel.of((WEIGHTS, 0.25))


@pytest.fixture(scope="module")
def client():
    return Client(features=3)


@pytest.fixture(scope="module")
def server(client):
    return Server(MODEL, client.public_context())


@pytest.fixture(scope="module")
def exchange(client, server):
    """One query and its answer, for tests that damage them; the answer stays unread."""
    query = client.encrypt(np.arange(12.0).reshape(4, 3))
    return query, server.score(query)


def bodies(message, kind):
    return messages.unpack(message, kind)


def context_message(context, *, secret=False, public=True):
    body = context.serialize(
        save_public_key=public,
        save_secret_key=secret,
        save_galois_keys=False,
        save_relin_keys=False,
    )
    return messages.pack(messages.CONTEXT, [body])


def make_context(degree=8192, bits=(60, 50, 50, 58), scale=2.0**50, **more):
    context = ts.context(
        ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=list(bits), n_threads=1, **more
    )
    context.global_scale = scale
    return context


# -- agreement -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 2048, SLOTS, SLOTS + 1])
def test_encrypted_scores_agree_with_clear_ones_for_any_batch_size(client, server, rows):
    data = np.random.default_rng(rows).normal(size=(rows, 3))
    scores = client.scores(server.score(client.encrypt(data)))
    assert scores.shape == (rows,)
    np.testing.assert_allclose(scores, data @ WEIGHTS + 0.25, rtol=0, atol=1e-8)


def test_realistic_unscaled_features_agree_within_1e_4():
    rng = np.random.default_rng(0)
    data = np.column_stack(
        [rng.integers(17, 90, 2048), rng.lognormal(10, 1, 2048), rng.integers(0, 99_999, 2048)]
    )
    weights = np.array([0.03, -2e-5, 1e-6])
    client = Client(3)
    server = Server(LinearModel.of((weights, -1.7)), client.public_context())
    scores = client.scores(server.score(client.encrypt(data)))
    assert np.abs(scores - (data @ weights - 1.7)).max() < 1e-4


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32),
    features=st.integers(1, 4),
    value=st.integers(-30, 30),
    weight=st.integers(-30, 17),
)
def test_the_documented_error_bound_holds_at_every_scale(seed, features, value, weight):
    rng = np.random.default_rng(seed)
    data = rng.uniform(-1, 1, (50, features)) * 2.0**value
    weights = rng.uniform(-1, 1, features) * 2.0**weight
    client = Client(features)
    server = Server(LinearModel.of((weights, 1.0)), client.public_context())
    scores = client.scores(server.score(client.encrypt(data)))
    size, total = np.abs(data), np.abs(weights)
    bound = 2.0**-34 * (size @ total + total.sum() + 1) + 2.0**-50 * size.sum(axis=1)
    # The noise of a slot depends on the whole batch: compare with the batch's largest bound.
    assert np.abs(scores - (data @ weights + 1.0)).max() <= bound.max()


def test_the_client_applies_the_sigmoid():
    client = Client(2)
    server = Server(LinearModel.of(([2.0, -1.0], 0.5), logistic=True), client.public_context())
    data = np.array([[0.0, 0.0], [300.0, 0.0], [-300.0, 0.0]])
    probabilities = client.probabilities(server.score(client.encrypt(data)))
    np.testing.assert_allclose(probabilities, [1 / (1 + np.exp(-0.5)), 1, 0], atol=1e-9)


def test_a_linear_model_has_no_probabilities(client, server):
    answer = server.score(client.encrypt([[1, 2, 3]]))
    with pytest.raises(InputError, match="not logistic"):
        client.probabilities(answer)


def test_sigmoid_does_not_overflow():
    assert sigmoid(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("intercept", [0.0, -3.5])
def test_a_model_of_zero_weights_answers_its_intercept(intercept):
    client = Client(2)
    server = Server(LinearModel.of(([0.0, 0.0], intercept)), client.public_context())
    scores = client.scores(server.score(client.encrypt([[5.0, 6.0]])))
    assert scores == pytest.approx([intercept], abs=1e-9)


def test_data_frames_and_integers_are_taken(client, server):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    scores = client.scores(server.score(client.encrypt(frame)))
    assert scores == pytest.approx([0.8 - 0.75 + 0.25, 1.6 - 2.25 + 0.25])


# -- who knows what ---------------------------------------------------------------------


def test_what_the_server_receives_holds_no_secret_key(client, exchange):
    (body,) = bodies(client.public_context(), messages.CONTEXT)
    received = ts.context_from(body, 1)
    assert not received.is_private()
    assert not received.has_secret_key()
    assert not received.has_galois_keys()
    assert not received.has_relin_keys()
    _, ciphertext, *_ = bodies(exchange[0], messages.QUERY)
    with pytest.raises(ValueError, match="secret_key"):
        ts.ckks_vector_from(received, ciphertext).decrypt()


def test_the_secret_key_s_bytes_are_in_no_message(client, exchange):
    """The private part comes last in TenSEAL's bytes, and is the same each time it is written."""
    private = client._context.serialize(save_secret_key=True, save_galois_keys=False)
    probe = private[-100_000:][:64]
    assert probe in client._context.serialize(save_secret_key=True, save_galois_keys=False)
    assert not any(probe in message for message in (client.public_context(), *exchange))


def test_the_server_holds_no_secret_key(server):
    assert not server._context.is_private()


def test_a_context_with_a_secret_key_is_refused():
    with pytest.raises(AccessDenied, match="holds the secret key"):
        Server(MODEL, context_message(make_context(), secret=True))


def test_a_symmetric_context_with_a_secret_key_is_refused():
    context = make_context(encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC)
    with pytest.raises((AccessDenied, InputError)):
        Server(MODEL, context_message(context, secret=True))


@pytest.mark.parametrize(
    "context",
    [
        lambda: make_context(bits=(60, 40, 60)),
        lambda: make_context(degree=16384),
        lambda: make_context(scale=2.0**40),
        lambda: ts.context(ts.SCHEME_TYPE.BFV, 8192, plain_modulus=1032193, n_threads=1),
    ],
)
def test_a_context_of_other_parameters_is_refused(context):
    with pytest.raises(InputError, match="context"):
        Server(MODEL, context_message(context()))


def test_a_context_without_a_public_key_is_refused():
    with pytest.raises(InputError, match="no public key"):
        Server(MODEL, context_message(make_context(), public=False))


def test_reprs_show_neither_keys_nor_weights(client, server):
    assert repr(client) == "Client(features=3)"
    assert repr(server) == "Server(features=3)"


# -- bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.empty((0, 3)), "1 to"),
        ([], "shape"),
        ([[1, 2]], "shape"),
        ([1, 2, 3], "shape"),
        ([[1, 2, np.nan]], "present"),
        ([[1, 2, np.inf]], "present"),
        ([[1, 2, None]], "numbers|present"),
        ([[1, 2, 1e12]], "within"),
        ([["yes", "no", "no"]], "numbers"),
        ([["1", "2", "3"]], "numbers"),
        ([[1j, 2, 3]], "numbers"),
        ([[1, 2, 3], [1, 2]], "numbers"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(client, rows, message):
    with pytest.raises(InputError, match=message):
        client.encrypt(rows)


def test_an_error_does_not_quote_the_cell(client):
    with pytest.raises(InputError) as caught:
        client.encrypt(np.array([[1, 2, "Alice Example"]], dtype=object))
    assert "Alice" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_batch_beyond_the_largest_message_is_refused_before_it_is_encrypted(client):
    rows = np.zeros((inference.max_rows(3) + 1, 3), dtype=np.int8)
    with pytest.raises(InputError, match="a batch has 1 to"):
        client.encrypt(rows)


@pytest.mark.parametrize("features", [0, -1, 4097, 1.5, "3"])
def test_a_client_needs_a_number_of_features(features):
    with pytest.raises(InputError, match="features must be"):
        Client(features)


def test_a_query_of_another_number_of_features_is_refused():
    client = Client(2)
    server = Server(MODEL, client.public_context())
    with pytest.raises(InputError, match="3 features, the query 2"):
        server.score(client.encrypt([[1.0, 2.0]]))


def test_a_query_for_another_client_s_context_is_refused(server):
    with pytest.raises(InputError, match="another context"):
        server.score(Client(3).encrypt([[1.0, 2.0, 3.0]]))


def test_an_answer_is_read_once_and_by_its_client_alone(client, server):
    answer = server.score(client.encrypt([[1.0, 2.0, 3.0]]))
    with pytest.raises(InputError, match="no open query"):
        Client(3).scores(answer)
    client.scores(answer)
    with pytest.raises(InputError, match="no open query"):
        client.scores(answer)


def test_an_answer_of_fewer_rows_is_refused(client, exchange):
    facts, *parts = bodies(exchange[1], messages.ANSWER)
    identity, rows, logistic = messages.ANSWER_FACTS.unpack(facts)
    fewer = messages.ANSWER_FACTS.pack(identity, rows - 1, logistic)
    with pytest.raises(InputError, match="no open query"):
        client.scores(messages.pack(messages.ANSWER, [fewer, *parts]))


def test_a_ciphertext_that_claims_more_rows_than_it_has_is_never_decrypted(client, exchange):
    """TenSEAL would read past the end of its buffer."""
    facts, part = bodies(exchange[1], messages.ANSWER)
    claim = bytes([0x0A, 3]) + b"\xff\xff\x03"  # field 1, packed: 65,535 rows
    with pytest.raises(InputError, match=r"number of rows|cannot be read"):
        client.scores(messages.pack(messages.ANSWER, [facts, part + claim]))


def test_a_server_refuses_surplus_and_missing_ciphertexts(server, exchange):
    facts, *parts = bodies(exchange[0], messages.QUERY)
    for wrong in (parts[:-1], [*parts, parts[0]], parts * 2, []):
        with pytest.raises(InputError, match="do not agree"):
            server.score(messages.pack(messages.QUERY, [facts, *wrong]))


PLACES = st.integers(0, 120) | st.floats(0, 1, exclude_max=True)  # header and facts come first
CHANGES = st.integers(1, 255)


def flip(message, place, change):
    """Change one byte, at an index or at a fraction of the message: lengths vary by chance."""
    damaged = bytearray(message)
    damaged[int(place * len(message)) if isinstance(place, float) else place] ^= change
    return bytes(damaged)


@settings(max_examples=60)
@given(place=PLACES, change=CHANGES)
def test_damaged_messages_are_refused_or_give_other_numbers_but_never_crash(
    client, server, place, change
):
    """A changed ciphertext can be a valid one: CKKS promises no integrity, and neither do we."""
    query = client.encrypt(np.arange(12.0).reshape(4, 3))
    answer = server.score(query)
    with contextlib.suppress(InputError):
        assert isinstance(server.score(flip(query, place, change)), bytes)
    with contextlib.suppress(InputError):
        assert client.scores(flip(answer, place, change)).shape == (4,)


@settings(max_examples=40)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_truncated_messages_are_refused(client, server, exchange, cut):
    query, answer = exchange
    with pytest.raises(InputError):
        server.score(query[: int(len(query) * cut)])
    with pytest.raises(InputError):
        client.scores(answer[: int(len(answer) * cut)])
    with pytest.raises(InputError):
        Server(MODEL, client.public_context()[: int(len(client.public_context()) * cut)])


@pytest.mark.parametrize("foreign", [b"", b"PK\x03\x04" + bytes(99), b"\x80\x04K*.", bytes(10**6)])
def test_foreign_bytes_are_refused(client, server, foreign):
    for read in (server.score, client.scores, lambda data: Server(MODEL, data)):
        with pytest.raises(InputError, match="not a message"):
            read(foreign)


def test_a_part_that_is_no_ciphertext_is_refused(server, exchange):
    facts, *parts = bodies(exchange[0], messages.QUERY)
    for part in (b"", bytes(100), b"\xff" * 100, bytes(2**19 + 1)):
        with pytest.raises(InputError, match="ciphertext"):
            server.score(messages.pack(messages.QUERY, [facts, part, *parts[1:]]))


def test_a_context_that_is_no_context_is_refused():
    for body in (b"", bytes(100), struct.pack(">I", 7), bytes(2**20 + 1)):
        with pytest.raises(InputError, match="context"):
            Server(MODEL, messages.pack(messages.CONTEXT, [body]))


def test_without_tenseal_the_error_names_the_install_command(monkeypatch):
    def missing(name, *rest):
        raise ImportError(name)

    monkeypatch.setattr(inference, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"compliance-toolkit\[he\]"):
        Client(3)
    monkeypatch.undo()
    assert importlib.import_module("tenseal") is ts
