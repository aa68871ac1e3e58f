"""Presidio's findings, without its model downloads, its network and its talkative logger."""

import json
import logging
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError, MissingExtra, OperationError
from compliance.pii import detect
from compliance.pii.detect import Detector, Match

# urllib3, which tldextract imports, makes one socket at import and binds it to ::1 to learn
# whether there is IPv6; it sends nothing. Everything that could send is closed.
CLOSED = """
import socket, sys
attempts = []
def closed(*args, **kwargs):
    attempts.append(args); raise OSError("closed")
class Closed(socket.socket):
    connect = connect_ex = sendto = sendmsg = closed
socket.socket, socket.getaddrinfo, socket.create_connection = Closed, closed, closed
"""
OURS = """
from compliance.pii.detect import Detector
found = Detector.load().find("write to ada@example.co.uk or see https://example.org")
assert {m.kind for m in found} >= {"EMAIL_ADDRESS", "URL"}, found
sys.exit(2 if attempts else 0)
"""
STOCK = """
from presidio_analyzer.predefined_recognizers import EmailRecognizer
EmailRecognizer().analyze("write to ada@example.co.uk", ["EMAIL_ADDRESS"])
sys.exit(0 if attempts else 1)
"""


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


@pytest.fixture(scope="module")
def stock(detector):
    """Presidio's own engine over the same recognizers and tokens."""
    from presidio_analyzer import AnalyzerEngine

    return AnalyzerEngine(registry=detect._registry(), nlp_engine=detect._parts().nlp_engine)


def by_stock(stock, text):
    found = (Match(r.entity_type, r.start, r.end, r.score) for r in stock.analyze(text, "en"))
    return tuple(sorted(found, key=lambda m: (m.start, m.end, m.kind)))


def run(code, tmp_path):
    env = {"PATH": "", "TLDEXTRACT_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run([sys.executable, "-c", CLOSED + code], env=env, check=False).returncode


def test_loading_and_finding_open_no_socket_and_look_up_no_name(tmp_path):
    assert run(OURS, tmp_path) == 0


def test_the_closed_socket_would_have_caught_stock_presidio(tmp_path):
    assert run(STOCK, tmp_path) == 0


def test_findings_equal_presidios_on_its_own_research_corpus(detector, stock, data):
    path = data / "pii" / "synth" / "presidio_research_synth_dataset_v2.json"
    texts = [item["full_text"] for item in json.loads(path.read_text("utf-8"))]
    wrong = [i for i, text in enumerate(texts) if detector.find(text) != by_stock(stock, text)]
    assert len(texts) == 1500
    assert wrong == []


@given(st.text(alphabet="ab1 29-.:@/+()é٣\n", max_size=40) | st.text(max_size=40))
def test_findings_equal_presidios_on_any_text(detector, stock, text):
    assert detector.find(text) == by_stock(stock, text)


@given(st.text(st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="@.:-")))
def test_a_text_without_a_trigger_holds_nothing_for_presidio_either(detector, stock, text):
    assert detector.find(text) == by_stock(stock, text) == ()


def test_the_engine_states_its_version_its_kinds_and_what_it_does_not_cover(detector):
    from importlib.metadata import version

    assert detector.engine == f"presidio-analyzer {version('presidio-analyzer')}, patterns"
    assert {"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN"} <= set(detector.kinds)
    assert "PERSON" not in detector.kinds
    assert detector.names.startswith("not covered")
    assert detector.find("Ada Lovelace lives in London") == ()


def test_only_the_kinds_asked_for_are_found():
    text = "ada@example.org, 4111 1111 1111 1111"
    assert {m.kind for m in Detector.load(["CREDIT_CARD"]).find(text)} == {"CREDIT_CARD"}


def test_an_unknown_kind_is_refused_and_the_known_ones_are_named():
    with pytest.raises(InputError, match=r"PERSON.*EMAIL_ADDRESS"):
        Detector.load(["PERSON"])


def test_a_missing_extra_names_the_install_command(monkeypatch):
    detect._parts.cache_clear()
    monkeypatch.setitem(sys.modules, "presidio_analyzer.context_aware_enhancers", None)
    with pytest.raises(MissingExtra, match=r"compliance-toolkit\[pii\]") as caught:
        Detector.load()
    assert caught.value.package == "presidio-analyzer"


def test_presidio_logs_nothing_of_a_text_at_any_level(detector, caplog):
    caplog.set_level(logging.DEBUG)
    detector.find("lovelace's iban is DE89 3704 0044 0532 0130 00, call lovelace 212-555-0199")
    assert "lovelace" not in caplog.text
    assert not [r for r in caplog.records if r.name == "presidio-analyzer"]


def test_presidio_still_logs_for_others(caplog):
    caplog.set_level(logging.WARNING)
    logging.getLogger("presidio-analyzer").warning("someone else's")
    assert "someone else's" in caplog.text


def test_a_failing_recognizer_is_an_error_that_quotes_nothing(detector, monkeypatch):
    def fail(self, text, kinds):
        raise ValueError(f"Did not find word '{text}'")

    monkeypatch.setattr(detect._Parts, "analyze", fail)
    with pytest.raises(OperationError) as caught:
        detector.find("ada@example.org")
    assert "ada" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_threads_share_the_engine(detector):
    text = "call me on 212-555-0199 or write to ada@example.org"
    expected, wrong = detector.find(text), []

    def work():
        wrong.extend(1 for _ in range(20) if detector.find(text) != expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected
    assert wrong == []


def test_the_vocabulary_keeps_no_word_of_a_text(detector):
    detector.find("zyxwvutsrq wrote to ada@example.org")
    assert "zyxwvutsrq" not in detect._parts().nlp_engine.nlp["en"].vocab.strings
