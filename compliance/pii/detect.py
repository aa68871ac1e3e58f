"""Presidio's recognizers for English, run without a language model and without a network.

Three things differ from a stock ``AnalyzerEngine``, and the results do not
(tests/pii/test_pii_detect.py holds both to the same findings):

- the language pipeline is spaCy's blank English tokenizer with lower-case
  lemmas, so nothing is downloaded; names of people and places need a model and
  are *not* found, which `Detector.names` states;
- tldextract, which Presidio's e-mail recognizer asks about each domain, reads
  the suffix list that it brings along instead of asking two hosts;
- the text is tokenized only where a recognizer matched, since tokens serve
  nothing but the context words around a match.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from threading import Lock
from typing import Any, ClassVar

from compliance.errors import InputError, MissingExtra, OperationError

# Every shipped pattern needs a digit, an at sign, a dot, a colon or a hyphen; phone numbers
# need digits. A text without any of them cannot match, whatever else it holds.
_TRIGGER = re.compile(r"[\d@.:\-]")

_ours: ContextVar[bool] = ContextVar("compliance_pii_detect", default=False)


@dataclass(frozen=True, slots=True)
class Match:
    """Where a kind of personal data stands in a text: characters ``start`` to ``end``."""

    kind: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds kinds of personal data in text by pattern, checksum and context words.

    Attributes:
        engine: the engine and its version, as reports state it.
        kinds: the kinds it can find, sorted.
        names: what it says about names of people, places and organisations.
    """

    engine: str
    kinds: tuple[str, ...]
    names: ClassVar[str] = "not covered: no language model; columns are judged by their header"

    @classmethod
    def load(cls, kinds: Iterable[str] | None = None) -> Detector:
        """Load the engine, once per process (two to three seconds the first time).

        Args:
            kinds: the kinds to look for; default: all.

        Raises:
            MissingExtra: presidio-analyzer or spaCy is not installed.
            InputError: a kind the engine does not know.
        """
        known = tuple(sorted({kind for r in _parts().recognizers for kind in r.supported_entities}))
        wanted = known if kinds is None else tuple(sorted(set(kinds)))
        if unknown := [kind for kind in wanted if kind not in known]:
            raise InputError(f"unknown kinds {unknown}; the engine finds: {', '.join(known)}")
        return cls(f"presidio-analyzer {version('presidio-analyzer')}, patterns", wanted)

    def find(self, text: str) -> tuple[Match, ...]:
        """Return the matches in a text by position, with Presidio's own types, spans and scores.

        Raises:
            OperationError: the engine failed on this text; the message does not quote it.
        """
        if not _TRIGGER.search(text):
            return ()
        with _quiet():
            try:
                results = _parts().analyze(text, frozenset(self.kinds))
            except Exception as error:  # noqa: BLE001  its message may quote the text
                what = type(error).__name__
                raise OperationError(f"the PII engine failed on a text ({what})") from None
        return tuple(sorted(results, key=lambda m: (m.start, m.end, m.kind)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Presidio's logger for calls made here: at DEBUG and ERROR it quotes the text."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def _not_ours(_record: logging.LogRecord) -> bool:
    return not _ours.get()


@dataclass(frozen=True, slots=True)
class _Parts:
    """The engine's parts; they hold no text between calls."""

    nlp_engine: Any
    recognizers: tuple[Any, ...]
    enhancer: Any
    zone: Lock = field(default_factory=Lock)  # spaCy's memory zones must not nest

    def analyze(self, text: str, kinds: frozenset[str]) -> Iterator[Match]:
        """Do what ``AnalyzerEngine.analyze`` does, and tokenize only a text that matched."""
        wanted = [r for r in self.recognizers if not kinds.isdisjoint(r.supported_entities)]
        results = [hit for r in wanted for hit in r.analyze(text, r.supported_entities, None)]
        if not results:
            return iter(())
        results = self._with_context(text, results, wanted)
        kept = wanted[0].remove_duplicates(results)
        return (Match(r.entity_type, r.start, r.end, float(r.score)) for r in kept)

    def _with_context(self, text: str, results: list[Any], recognizers: list[Any]) -> list[Any]:
        # The zone returns the strings of the text to the allocator: spaCy's vocabulary
        # would otherwise keep every word it has seen, personal ones too.
        with self.zone, self.nlp_engine.nlp["en"].memory_zone():
            artifacts = self.nlp_engine.process_text(text, "en")
            enhanced: list[Any] = self.enhancer.enhance_using_context(
                text=text, raw_results=results, nlp_artifacts=artifacts, recognizers=recognizers
            )
            return enhanced


@cache
def _parts() -> _Parts:
    """Build the engine; cached, so that a process pays once."""
    try:
        with _quiet():
            from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer

            logger = logging.getLogger("presidio-analyzer")
            logger.addFilter(_not_ours)
            nlp_engine = _blank_engine()
            registry = _registry()
            return _Parts(nlp_engine, tuple(registry.recognizers), LemmaContextAwareEnhancer())
    except ImportError as error:
        package = (error.name or "presidio_analyzer").partition(".")[0].replace("_", "-")
        raise MissingExtra("pii", package) from error


def _blank_engine() -> Any:
    """Return Presidio's spaCy engine over a blank English pipeline: no weights, no download."""
    import spacy
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    class BlankEngine(SpacyNlpEngine):
        """Tokens of the blank English pipeline, lemma = token in lower case."""

        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}  # type: ignore[assignment]  # declared None there

        def _doc_to_nlp_artifact(self, doc: Any, language: str) -> Any:
            indices = [token.idx for token in doc]
            lemmas = [token.lower_ for token in doc]
            return NlpArtifacts([], doc, indices, lemmas, self, language)

    engine = BlankEngine([{"lang_code": "en", "model_name": "blank"}])
    engine.load()
    return engine


def _registry() -> Any:
    """Return Presidio's predefined English recognizers, less the one that needs a model."""
    import tldextract
    from presidio_analyzer import RecognizerRegistry
    from presidio_analyzer.predefined_recognizers import EmailRecognizer, SpacyRecognizer

    suffixes = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())

    class OfflineEmailRecognizer(EmailRecognizer):
        """Presidio's own, asking the suffix list that tldextract brings along."""

        def validate_result(self, pattern_text: str) -> bool:
            return bool(suffixes(pattern_text).fqdn)

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(["en"])
    registry.recognizers = [
        OfflineEmailRecognizer(name="EmailRecognizer") if isinstance(r, EmailRecognizer) else r
        for r in registry.recognizers
        if not isinstance(r, SpacyRecognizer)
    ]
    return registry
