"""Fakes of the servers that keep master keys: real sockets on this machine, real AES-GCM inside."""

from __future__ import annotations

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c
import keyring
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keyring.backend import KeyringBackend

from compliance.config import Settings

TOKEN = "hvs.a-token-that-nobody-may-see"
SECRET = "an-aws-secret-that-nobody-may-see"
GCP_KEY = "projects/bank/locations/europe/keyRings/ring/cryptoKeys/domain"
ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


class Fake:
    """A server that answers POST requests; ``fail`` is an answer that it gives to all of them."""

    def __init__(self):
        self.fail = None
        self.requests = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.requests.append(self.path)
                request = json.loads(body)
                status, answer = fake.fail or fake.answer(self.path, self.headers, request)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_PUT = do_POST  # noqa: N815 - the name is http.server's

            def log_message(self, *_):
                """Print nothing: what pytest shows of a failed test is its own."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, headers, request):
        raise NotImplementedError


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text or "", validate=True)


def seal(cipher, data, bound):
    nonce = os.urandom(12)
    return nonce + cipher.encrypt(nonce, data, bound)


def unseal(cipher, data, bound):
    try:
        return cipher.decrypt(data[:12], data[12:], bound)
    except (InvalidTag, ValueError):
        return None


class FakeVault(Fake):
    """Transit as ``builtin/logical/transit`` does it: upsert, associated data, versions."""

    def __init__(self):
        super().__init__()
        self.keys = {"domain": [AESGCM(os.urandom(32))]}
        self.kind = "aes256-gcm96"
        self.least = 1
        self.knows_associated_data = True

    def answer(self, path, headers, request):
        if headers["X-Vault-Token"] != TOKEN:
            return 403, {"errors": ["permission denied"]}
        _, version, mount, action, name = path.split("/")
        if (version, mount) != ("v1", "transit"):
            return 404, {"errors": [f"no handler for route {mount!r}"]}
        if action == "encrypt" and name not in self.keys:
            if request.get("type", "aes256-gcm96") != "aes256-gcm96":
                return 400, {"errors": [f"unknown key type {request['type']}"]}
            self.keys[name] = [AESGCM(os.urandom(32))]  # upsert, for a token that may create
        if name not in self.keys:
            return 400, {"errors": ["encryption key not found"]}
        bound = unb64(request.get("associated_data")) if self.knows_associated_data else b""
        if bound and self.kind.startswith("rsa"):
            text = f"'[0].associated_data' provided for non-AEAD cipher suite {self.kind}"
            return 400, {"errors": [text]}
        return getattr(self, action)(self.keys[name], request, bound)

    def encrypt(self, versions, request, bound):
        sealed = seal(versions[-1], unb64(request["plaintext"]), bound)
        text = f"vault:v{len(versions)}:{b64(sealed)}"
        return 200, {"data": {"ciphertext": text, "key_version": len(versions)}}

    def decrypt(self, versions, request, bound):
        parts = request["ciphertext"].split(":")
        if len(parts) != 3 or parts[0] != "vault" or not parts[1][1:].isdigit():
            return 400, {"errors": ["invalid ciphertext: no prefix"]}
        if not 1 <= int(parts[1][1:]) <= len(versions):
            return 400, {"errors": ["invalid ciphertext: version is too new"]}
        if int(parts[1][1:]) < self.least:
            text = "ciphertext or signature version is disallowed by policy (too old)"
            return 400, {"errors": [text]}
        try:
            plain = unseal(versions[int(parts[1][1:]) - 1], unb64(parts[2]), bound)
        except ValueError:
            return 400, {"errors": ["invalid ciphertext: could not decode base64"]}
        if plain is None:
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": b64(plain)}}


class FakeAws(Fake):
    """The JSON protocol of KMS: Encrypt and Decrypt under an encryption context."""

    def __init__(self):
        super().__init__()
        self.keys = {ARN: AESGCM(os.urandom(32)), "alias/domain": AESGCM(os.urandom(32))}

    def answer(self, path, headers, request):
        if "Credential=AKIDEXAMPLE/" not in headers["Authorization"]:
            return 400, {"__type": "UnrecognizedClientException", "message": "invalid token"}
        if request["KeyId"] not in self.keys:
            return 400, {"__type": "NotFoundException", "message": "Key does not exist"}
        cipher = self.keys[request["KeyId"]]
        bound = json.dumps(request.get("EncryptionContext", {}), sort_keys=True).encode()
        action = headers["X-Amz-Target"]
        if action == "TrentService.Encrypt":
            blob = seal(cipher, unb64(request["Plaintext"]), bound)
            return 200, {"CiphertextBlob": b64(blob), "KeyId": request["KeyId"]}
        assert action == "TrentService.Decrypt"
        plain = unseal(cipher, unb64(request["CiphertextBlob"]), bound)
        if plain is None:
            return 400, {"__type": "InvalidCiphertextException"}
        return 200, {"Plaintext": b64(plain), "KeyId": request["KeyId"]}


class FakeGcp(Fake):
    """The REST protocol of Cloud KMS: checks the caller's signed token and every checksum."""

    def __init__(self, private):
        super().__init__()
        self.public = private.public_key()
        self.cipher = AESGCM(os.urandom(32))
        self.damage = {}

    def answer(self, path, headers, request):
        self._signed(headers["Authorization"].removeprefix("Bearer "))
        name, _, action = path.removeprefix("/v1/").partition("?")[0].partition(":")
        if name != GCP_KEY:
            return 404, {"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}
        for field in ("plaintext", "ciphertext", "additionalAuthenticatedData"):
            if field in request:
                assert int(request[f"{field}Crc32c"]) == google_crc32c.value(unb64(request[field]))
        bound = unb64(request.get("additionalAuthenticatedData"))
        status, answer = getattr(self, action)(request, bound)
        return status, answer | (self.damage if status == 200 else {})

    def _signed(self, token):
        head, body, signature = token.split(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        signed = f"{head}.{body}".encode()
        self.public.verify(raw, signed, padding.PKCS1v15(), hashes.SHA256())

    def encrypt(self, request, bound):
        sealed = seal(self.cipher, unb64(request["plaintext"]), bound)
        return 200, {
            "name": f"{GCP_KEY}/cryptoKeyVersions/1",
            "ciphertext": b64(sealed),
            "ciphertextCrc32c": str(google_crc32c.value(sealed)),
            "verifiedPlaintextCrc32c": True,
            "verifiedAdditionalAuthenticatedDataCrc32c": True,
        }

    def decrypt(self, request, bound):
        plain = unseal(self.cipher, unb64(request.get("ciphertext")), bound)
        if plain is None:
            text = "Decryption failed: the ciphertext is invalid."
            return 400, {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}
        crc = str(google_crc32c.value(plain))
        return 200, {"plaintext": b64(plain), "plaintextCrc32c": crc, "usedPrimary": True}


class Desktop(KeyringBackend):
    """A keyring in memory, which can be told to cut or to refuse."""

    priority = -1  # never chosen by itself

    def __init__(self):
        super().__init__()
        self.entries = {}
        self.cut = None
        self.error = None

    def get_password(self, service, username):
        if self.error:
            raise self.error
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        self.entries[service, username] = password[: self.cut]


def _running(fake):
    yield fake
    fake.stop()


@pytest.fixture
def vault(monkeypatch):
    fake = FakeVault()
    monkeypatch.setenv("VAULT_ADDR", fake.url)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    monkeypatch.delenv("VAULT_NAMESPACE", raising=False)
    yield from _running(fake)


@pytest.fixture
def aws(monkeypatch):
    fake = FakeAws()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", fake.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield from _running(fake)


@pytest.fixture(scope="session")
def account_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def gcp(monkeypatch, tmp_path, account_key):
    fake = FakeGcp(account_key)
    pem = account_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "bank",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "toolkit@bank.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{fake.url}/token",
        "universe_domain": "bank.test",  # in Google's own, the library looks regions up beside
    }
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "bank.test")
    (tmp_path / "account.json").write_text(json.dumps(account), "utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", fake.url)
    yield from _running(fake)


@pytest.fixture
def desktop():
    before = keyring.get_keyring()
    backend = Desktop()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.fixture
def at(tmp_path):
    """Return a function that gives the settings of a project with some master key."""

    def settings(master, tenant="bank"):
        return Settings(root=tmp_path, home=tmp_path / ".compliance", master=master, tenant=tenant)

    return settings
