"""Scoring with a linear or logistic model whose input stays encrypted (CKKS, by TenSEAL).

A `Client` owns the rows and the secret key. A `Server` owns the weights and sees ciphertexts:

    client = Client(features=13)
    server = Server(LinearModel.of(model), client.public_context())
    answer = server.score(client.encrypt(rows))
    client.probabilities(answer)            # or client.scores(answer)

**Packing.** One ciphertext for each feature, its slots the rows. A score is then a sum of
ciphertexts times plain numbers: no rotation and no relinearisation, so the server needs no
such keys, and 4,096 rows cost what one row does. Longer batches are cut into several.

**Sigmoid.** It is no polynomial; the client applies it after decryption.

**Parameters.** Ring degree 8,192 and primes of 60 + 50 + 50 + 58 = 218 bits, the most that
keeps 128 bits of security at this degree (homomorphicencryption.org standard, 2018, table 1,
ternary secret, classical attacks); SEAL refuses weaker ones. Scale 2^50. With values up to
`MAX_FEATURE` and weights up to `linear.MAX_WEIGHT` together nothing overflows.

**Precision.** The error of a score stays below 2^-34 (sum |w x| + sum |w| + 1) + 2^-50 sum |x|:
the first part is noise and the distance of the rescaling prime from 2^50, the second the
rounding of weights. That is 1e-9 for standardised features and 1e-7 for values of a million.

**What it does not promise.**

- Decrypted scores are approximate, and their error depends on the secret key. Whoever sees
  a ciphertext and its exact decryption, often a single one, can compute the key: CKKS is not
  IND-CPA-D secure (Li and Micciancio, EUROCRYPT 2021, eprint 2020/1533). So never
  hand decrypted scores to the server, or to anybody else who sees the ciphertexts; where a
  result must be passed on, pass on the decision or a score rounded to few digits.
- A server can answer anything: the scores carry no proof that they are the model's.
- A client that asks features + 1 suitable questions knows the weights.
- Messages are not authenticated: carry them over TLS.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from compliance.encrypted import messages
from compliance.encrypted.linear import MAX_FEATURES, LinearModel
from compliance.errors import AccessDenied, InputError, MissingExtra

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]

DEGREE = 8192
SLOTS = DEGREE // 2
PRIME_BITS = (60, 50, 50, 58)
SCALE = 2.0**50
MAX_FEATURE = 2.0**30  # of one value
MAX_CIPHERTEXTS = 4096  # of one query: 315 batches of 13 features

_MAX_CONTEXT = 2**20
_MAX_CIPHERTEXT = 2**19  # three primes take 2 * 8192 * 3 * 8 bytes before compression


def sigmoid(scores: Floats) -> Floats:
    """Return 1 / (1 + exp(-score)) without overflow."""
    import numpy as np

    tail: Floats = np.exp(-np.abs(scores))
    result: Floats = np.where(scores >= 0, 1.0, tail) / (1.0 + tail)
    return result


def max_rows(features: int) -> int:
    """Return how many rows one query may hold."""
    return MAX_CIPHERTEXTS // features * SLOTS


class Client:
    """Owns the rows and the secret key, which never leaves this object."""

    def __init__(self, features: int) -> None:
        """Make a fresh key pair.

        Args:
            features: how many the model has.

        Raises:
            InputError: not a number from 1 to `MAX_FEATURES`.
            MissingExtra: TenSEAL is not installed.
        """
        if not isinstance(features, int) or not 1 <= features <= MAX_FEATURES:
            raise InputError(f"features must be 1 to {MAX_FEATURES}, not {features}")
        ts = _tenseal()
        self.features = features
        self._context = ts.context(
            ts.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(PRIME_BITS), n_threads=1
        )
        self._context.global_scale = SCALE
        self._public = messages.pack(messages.CONTEXT, [_public(self._context)])
        self._waiting: dict[bytes, int] = {}  # rows of each query that awaits its answer

    def __repr__(self) -> str:
        return f"Client(features={self.features})"

    def public_context(self) -> bytes:
        """Return the message that a server is made with: parameters and public key alone."""
        return self._public

    def encrypt(self, rows: Any) -> bytes:
        """Return the message that asks for the scores of a batch.

        Args:
            rows: shape (rows, features): an array, data frame or nested list of finite
                numbers within ±`MAX_FEATURE`; 1 to `max_rows(features)` rows.

        Raises:
            InputError: another shape, no row, a missing or infinite value, or one out of range.
        """
        matrix = _matrix(rows, self.features)
        query = secrets.token_bytes(16)
        facts = messages.QUERY_FACTS.pack(query, messages.fingerprint(self._public), *matrix.shape)
        message = messages.pack(messages.QUERY, [facts, *self._ciphertexts(matrix)])
        self._waiting[query] = len(matrix)
        return message

    def scores(self, answer: bytes) -> Floats:
        """Return the decrypted scores, shape (rows,); an answer is read once.

        Never give them to the server (see the module's notes).

        Raises:
            InputError: malformed, or no answer to a query of this client that is still open.
        """
        return self._read(answer)[0]

    def probabilities(self, answer: bytes) -> Floats:
        """Return the sigmoid of the decrypted scores, shape (rows,); an answer is read once.

        Raises:
            InputError: as `scores`, or the model is not logistic.
        """
        scores, logistic = self._read(answer)
        if not logistic:
            raise InputError("the model is not logistic: it has scores, no probabilities")
        return sigmoid(scores)

    def _ciphertexts(self, matrix: Floats) -> Iterator[bytes]:
        """Yield batch after batch, in each one ciphertext for every feature."""
        ts = _tenseal()
        for start in range(0, len(matrix), SLOTS):
            for column in matrix[start : start + SLOTS].T:
                yield ts.ckks_vector(self._context, column.tolist()).serialize()

    def _read(self, answer: bytes) -> tuple[Floats, bool]:
        import numpy as np

        facts, *parts = messages.unpack(answer, messages.ANSWER)
        query, rows, logistic = messages.unpack_facts(messages.ANSWER_FACTS, facts)
        if self._waiting.get(query) != rows:
            raise InputError("the answer belongs to no open query of this client")
        sizes = _batches(rows, len(parts))
        pairs = zip(parts, sizes, strict=True)
        vectors = [_ciphertext(self._context, part, size) for part, size in pairs]
        with _readable("the answer"):
            scores = np.array([score for vector in vectors for score in vector.decrypt()])
        if not np.isfinite(scores).all():
            raise InputError("the answer does not decrypt to numbers")
        del self._waiting[query]
        return scores, logistic


class Server:
    """Owns the weights and computes on ciphertexts that it cannot open."""

    def __init__(self, model: LinearModel, context: bytes) -> None:
        """Take a client's public context.

        Raises:
            AccessDenied: the context holds a secret key; it was not kept.
            InputError: malformed, without public key, or of other parameters than ours.
        """
        (body,) = messages.unpack(context, messages.CONTEXT, parts=1)
        self._model = model
        self._context = _load_public(body)
        self._fingerprint = messages.fingerprint(context)

    def __repr__(self) -> str:
        return f"Server(features={len(self._model.weights)})"

    def score(self, query: bytes) -> bytes:
        """Return the message with the encrypted scores of a batch.

        Raises:
            InputError: malformed, encrypted for another context, or of another number of
                features than the model has.
        """
        facts, *parts = messages.unpack(query, messages.QUERY)
        identity, fingerprint, rows, features = messages.unpack_facts(messages.QUERY_FACTS, facts)
        if fingerprint != self._fingerprint:
            raise InputError("the query was encrypted for another context than this server's")
        if features != len(self._model.weights):
            raise InputError(
                f"the model has {len(self._model.weights)} features, the query {features}"
            )
        sizes = _batches(rows, len(parts) // features if len(parts) % features == 0 else -1)
        answers = [
            self._batch(parts[number * features :], size) for number, size in enumerate(sizes)
        ]
        return messages.pack(
            messages.ANSWER,
            [messages.ANSWER_FACTS.pack(identity, rows, self._model.logistic), *answers],
        )

    def _batch(self, parts: Sequence[bytes], size: int) -> bytes:
        """Return the sum over features of weight times ciphertext, plus the intercept."""
        total: Any = None
        for weight, part in zip(self._model.weights, parts, strict=False):
            vector = _ciphertext(self._context, part, size)
            with _readable("a ciphertext"):
                term = vector.mul_(weight)  # times zero: TenSEAL encrypts a fresh zero
                total = term if total is None else total.add_(term)
        with _readable("the query"):
            data: bytes = total.add_(self._model.intercept).serialize()
        return data


# -- TenSEAL -------------------------------------------------------------------------


def _tenseal() -> Any:
    try:
        return import_module("tenseal")
    except ImportError as error:
        raise MissingExtra("he", "tenseal") from error


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn what TenSEAL and SEAL raise on foreign bytes into an InputError."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise InputError(f"{what} cannot be read") from error


def _public(context: Any) -> bytes:
    data: bytes = context.serialize(
        save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return data


def _load_public(body: bytes) -> Any:
    """Return the context after it was found to be public and to have our parameters."""
    if len(body) > _MAX_CONTEXT:
        raise InputError("the context is larger than one of our parameters can be")
    ts = _tenseal()
    with _readable("the context"):
        context = ts.context_from(body, 1)
        private = context.is_private()
        ours = _parameters(context) == (DEGREE, PRIME_BITS, SCALE)
        ours = ours and context.has_public_key()
    if private:
        raise AccessDenied(
            "the context holds the secret key; send public_context() and replace the key, which "
            "has now left its owner"
        )
    if not ours:
        raise InputError("the context has other parameters than ours, or no public key")
    context.auto_rescale = context.auto_mod_switch = True
    return context


def _parameters(context: Any) -> tuple[int, tuple[int, ...], float]:
    """Return ring degree, bits of each prime and scale; degree 0 for another scheme than CKKS."""
    import_module("tenseal.sealapi")  # registers the types of what follows
    parameters = context.seal_context().data.key_context_data().parms()
    bits = tuple(prime.bit_count() for prime in parameters.coeff_modulus())
    degree = parameters.poly_modulus_degree() * (
        parameters.scheme() == _tenseal().SCHEME_TYPE.CKKS.value
    )
    return degree, bits, context.global_scale


def _ciphertext(context: Any, data: bytes, size: int) -> Any:
    """Return one ciphertext of so many rows; checked, as TenSEAL reads beyond a wrong size.

    SEAL itself checks that the ciphertext is well formed for the context's parameters.
    """
    if len(data) > _MAX_CIPHERTEXT:
        raise InputError("a ciphertext is larger than one of our parameters can be")
    ts = _tenseal()
    with _readable("a ciphertext"):
        vector = ts.ckks_vector_from(context, data)
        sound = len(vector.ciphertext()) == 1 and vector.size() == size
    if not sound:
        raise InputError("a ciphertext holds another number of rows than the message says")
    return vector


def _batches(rows: int, count: int) -> list[int]:
    """Return the rows of each batch; every batch but the last is full.

    Raises:
        InputError: the rows do not fill so many batches.
    """
    if rows < 1 or count != math.ceil(rows / SLOTS):
        raise InputError("the message's number of rows and of ciphertexts do not agree")
    return [min(SLOTS, rows - start) for start in range(0, rows, SLOTS)]


# -- values --------------------------------------------------------------------------


def _matrix(rows: Any, features: int) -> Floats:
    import numpy as np

    try:
        given = np.asarray(rows)
        real = given.dtype.kind in "biufO"  # not text that looks like numbers, dates, complex
        matrix: Floats = given.astype(np.float64) if real else np.empty(0)
    except (ValueError, TypeError, OverflowError):  # not chained: numpy quotes the cell
        real = False
    if not real:
        raise InputError("rows must be real numbers in a table of rows by features")
    if matrix.ndim != 2 or matrix.shape[1] != features:  # noqa: PLR2004  rows by features
        raise InputError(f"expected shape (rows, {features}), got {matrix.shape}")
    if not 1 <= len(matrix) <= max_rows(features):
        raise InputError(f"a batch has 1 to {max_rows(features)} rows, not {len(matrix)}")
    if not (np.abs(matrix) <= MAX_FEATURE).all():  # false for NaN too
        raise InputError(
            f"every value must be present, finite and within ±{MAX_FEATURE:.0f}; impute and scale"
        )
    return matrix
