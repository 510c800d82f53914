"""The prompt book: which documents a run gets, from whoever can tell in time.

While a model is not being tested, its local copy answers as long as it is fresh, and is refreshed behind
the answer. While it is being tested, the service is asked for each run. What a run was told is kept, in
memory and on disk, and stays so.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path

from .api import Api, Refused, ServiceError, Standing, Texts
from .prompt import NoPromptError, Prompt
from .runs import Run
from .settings import Settings
from .state import Pin, State
from .threads import DaemonThreads
from .warnings import Warnings

IN_USE_SECONDS = 900.0
"""A model that nobody asked about for so long is not refreshed any more."""
TEXTS_KEPT = 64
_THREADS = 8


class PromptBook:
    """Everything that a process knows about models, versions and texts. Shared by threads."""

    def __init__(
        self, settings: Settings, state: Callable[[], State], token: Callable[[], str], warnings: Warnings
    ) -> None:
        self._settings = settings
        self._state = state
        self._token = token
        self._warnings = warnings
        self._lock = threading.Lock()
        self._models: dict[str, tuple[Standing, float]] | None = None
        self._texts: dict[str, Texts] = {}
        self._used: dict[str, float] = {}
        self._refreshing: set[str] = set()
        self._away_until = 0.0
        self._about_tests: set[str] = set()
        self._api: Api | None = None
        self._pool: DaemonThreads | None = None
        self._reading: DaemonThreads | None = None
        self._keeper: threading.Thread | None = None
        self._closed = threading.Event()

    def for_task(self, run: Run, model: str) -> Prompt:
        """What this run is told. Blocks for ``ask_timeout_seconds`` at the most.

        Raises ``NoPromptError`` when there are no documents for the model anywhere.
        """
        prompt = self.told(run, model)
        if prompt.version is not None:
            run.versions[model] = prompt.version
        return prompt

    def told(self, run: Run, model: str) -> Prompt:
        """The same without taking it for a promise that the pipeline will use the version."""
        known: Prompt | None = run.pins.get(model)
        if known is not None:
            return known
        self.use(model)
        run_id = self._state().settle(run, self._token())
        pin = self._state().pin(run.task_id, run_id, model)
        texts = self._texts_of(model, pin.version, pin.content_hash) if pin is not None else None
        if pin is None or texts is None:
            pin, texts = self._decide(run.task_id, run_id, model)
            kept = self._state().keep_pin(run.task_id, run_id, model, pin)
            if kept != pin:
                # Another process told this run first.
                pin, texts = kept, self._texts_of(model, kept.version, kept.content_hash) or texts
        pair = None
        if pin.pair is not None and pin.pair_hash is not None:
            other = self._texts_of(model, pin.pair, pin.pair_hash)
            if other is not None:
                arm = {"control": "candidate", "candidate": "control"}.get(pin.arm or "")
                pair = Prompt(
                    run.task_id, model, pin.pair, arm, pin.cycle, pin.pair_hash,
                    other.template, other.activation, other.research, pin.source, leg=pin.pair,
                )
        prompt = Prompt(
            task_id=run.task_id,
            model=model,
            version=pin.version,
            arm=pin.arm,
            cycle=pin.cycle,
            content_hash=None if pin.version is None else pin.content_hash,
            template=texts.template,
            activation=texts.activation,
            research=texts.research,
            source=pin.source,
            leg=None if pair is None else pin.version,
            pair=pair,
        )
        told: Prompt = run.pins.setdefault(model, prompt)
        return told

    def _decide(self, task: str, run: str, model: str) -> tuple[Pin, Texts]:
        standing, age_seconds = self._standing(model)
        if standing is not None and not standing.testing and age_seconds <= self._settings.stale_seconds:
            texts = self._kept_texts(standing.content_hash)
            if texts is not None:
                if age_seconds > self._settings.fresh_seconds:
                    self._refresh_behind(model)
                return _pin_of(standing, "copy"), texts
        asked = self._ask(task, run, model)
        if asked is not None:
            return asked
        if standing is not None:
            texts = self._kept_texts(standing.content_hash)
            if texts is not None:
                return _pin_of(standing, "last_known"), texts
        texts = self._files(model)
        return Pin(None, None, None, texts.content_hash, "files"), texts

    def _ask(self, task: str, run: str, model: str) -> tuple[Pin, Texts] | None:
        """Asks the service, unless it did not answer a moment ago."""
        if time.monotonic() < self._away_until or self._closed.is_set():
            return None
        try:
            asking = self._threads().submit(self._ask_now, task, run, model)
            answer = asking.result(self._settings.ask_timeout_seconds)
        except Refused as refusal:
            if refusal.code != "unknown_model":
                self._did_not_answer(refusal)
                return None
            # It answers, only not about this model, and other models need not wait for that.
            self._warnings.once(f"unknown:{model}", "the service has no documents of this model: %s", refusal.detail)
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the pipeline goes on without it
            self._did_not_answer(error)
            return None
        self._answered()
        return answer

    def _ask_now(self, task: str, run: str, model: str) -> tuple[Pin, Texts]:
        told = self._service().assign(task, run, model)
        texts = self._texts_of(model, told.version, told.content_hash)
        if texts is None:
            raise ServiceError(f"version {told.version} of {model} has no texts")
        standing, _ = self._standing(model)
        if standing is None or standing.active_version != told.version or standing.testing != (told.arm is not None):
            self._refresh_behind(model)
        pair_hash = None if told.pair is None else self._pair_of(model, told.pair)
        return Pin(told.version, told.arm, told.cycle, told.content_hash, "service", told.pair, pair_hash), texts

    def _pair_of(self, model: str, version: int) -> str:
        """Fetches the texts of the second version of a pair, whose hash the assignment does not name."""
        texts = self._service().texts(model, version)
        if hash_of(texts) != texts.content_hash:
            raise ServiceError(f"version {version} of {model} came with other texts than its hash names")
        self._keep_texts(texts)
        return texts.content_hash

    def _did_not_answer(self, error: Exception) -> None:
        self._away_until = time.monotonic() + self._settings.ask_again_seconds
        words = "not in time" if isinstance(error, TooLate) else error
        self._warnings.once(
            "asking", "the service did not tell a version (%s); tasks go on with the last known documents", words
        )

    def _answered(self) -> None:
        self._warnings.over("asking", "the service tells versions again")

    def _texts_of(self, model: str, version: int | None, content_hash: str) -> Texts | None:
        """The texts of a hash: from memory, from disk, else from the service, once."""
        kept = self._kept_texts(content_hash)
        if kept is not None or version is None:
            return kept
        try:
            texts = self._service().texts(model, version)
        except Exception as error:  # noqa: BLE001
            self._did_not_answer(error)
            return None
        if texts.content_hash != content_hash or hash_of(texts) != content_hash:
            self._warnings.once("texts", "version %s of %s came with other texts than its hash names", version, model)
            return None
        self._keep_texts(texts)
        return texts

    def _kept_texts(self, content_hash: str) -> Texts | None:
        texts = self._texts.get(content_hash) or self._state().texts(content_hash)
        if texts is not None:
            self._remember(texts)
        return texts

    def _keep_texts(self, texts: Texts) -> None:
        self._state().keep_texts(texts)
        self._remember(texts)

    def _remember(self, texts: Texts) -> None:
        with self._lock:
            self._texts.setdefault(texts.content_hash, texts)
            while len(self._texts) > TEXTS_KEPT:
                del self._texts[next(iter(self._texts))]

    def _files(self, model: str) -> Texts:
        folder = self._settings.config_folder / model
        try:
            texts = Texts("", "", _read(folder / "activation.txt"), _read(folder / "research.md"))
        except (OSError, UnicodeError) as error:
            raise NoPromptError(
                f"there are no documents for {model!r}: the service at {self._settings.url} does not answer, no copy is kept, and {folder} cannot be read ({error})"
            ) from error
        texts = Texts(f"files:{hash_of(texts)}", "", texts.activation, texts.research)
        self._keep_texts(texts)
        self._warnings.once(
            f"files:{model}", "nobody told a version of %s; tasks go on with the files in %s, version unknown", model, folder
        )
        return texts

    def standing(self, model: str) -> Standing | None:
        """How the model stood when that was last heard; from memory, at once."""
        self.use(model)
        models = self._models
        if models is None:
            self._refresh_behind(model)
            return None
        known = models.get(model)
        if known is None:
            self._refresh_behind(model)
        return known[0] if known else None

    def _standing(self, model: str) -> tuple[Standing | None, float]:
        known = self._known_models().get(model)
        if known is None:
            return None, float("inf")
        return known[0], max(0.0, time.time() - known[1])

    def _known_models(self) -> dict[str, tuple[Standing, float]]:
        if self._models is None:
            kept = self._state().models()
            with self._lock:
                if self._models is None:
                    self._models = kept
        return self._models

    def use(self, model: str) -> None:
        """The pipeline works with this model: it is kept fresh from now on."""
        self._used[model] = time.monotonic()
        if self._keeper is None:
            with self._lock:
                if self._keeper is None and not self._closed.is_set():
                    self._keeper = threading.Thread(target=self._keep_fresh, name="mathesis-prompts", daemon=True)
                    self._keeper.start()

    def _keep_fresh(self) -> None:
        while not self._closed.wait(self._settings.fresh_seconds / 2):
            oldest = time.monotonic() - IN_USE_SECONDS
            for model in [model for model, used_at in list(self._used.items()) if used_at > oldest]:
                self.refresh(model)

    def _refresh_behind(self, model: str) -> None:
        if self._closed.is_set() or model in self._refreshing:
            return
        self._refreshing.add(model)
        try:
            self._threads().submit(self.refresh, model)
        except RuntimeError:
            self._refreshing.discard(model)

    def refresh(self, model: str) -> None:
        """Asks how the model stands, and fetches the texts of a version that is new. Never raises."""
        try:
            known, _ = self._standing(model)
            told = self._service().standing(model, known.etag if known else None) or known
            if told is None:
                return
            # Texts first: a version is known only once its texts are there to answer with.
            if self._texts_of(model, told.active_version, told.content_hash) is not None:
                self._state().keep_model(model, told)
                self._known_models()[model] = (told, time.time())
        except Exception as error:  # noqa: BLE001
            self._warnings.once("refresh", "how %s stands could not be asked (%s); the last known answer holds", model, error)
        else:
            self._warnings.over("refresh", "how models stand can be asked again")
        finally:
            self._refreshing.discard(model)

    @property
    def is_asked_about_tests(self) -> bool:
        """True once the pipeline has asked whether a model is being tested."""
        return bool(self._about_tests)

    def is_testing(self, model: str, run: Run | None) -> bool:
        """Whether a test of the model runs, and this run may still be part of it. Asks on, behind it."""
        self._about_tests.add(model)
        standing = self.standing(model)
        if standing is None or not standing.testing:
            return False
        if run is None:
            return True
        known: Prompt | None = run.pins.get(model)
        if known is not None:
            return known.arm is not None
        self._tell_behind(run, model)
        return True

    def begin(self, run: Run) -> None:
        """A run begins: where the pipeline asks about tests, it is dealt its versions now, so that they are
        known by the time it asks. (After its first enhancement it would get no slot.)"""
        for model in self._about_tests:
            standing = self.standing(model)
            if standing is not None and standing.testing:
                self._tell_behind(run, model)

    def test_versions(self, run: Run, model: str) -> list[int]:
        """Every version that the run is to use: both of a pair, else the one, or none while it is not known."""
        version = self.test_version(run, model)
        if version is None:
            return []
        known: Prompt | None = run.pins.get(model)
        legs = known.legs if known is not None else ()
        return [leg.version for leg in legs if leg.version is not None] or [version]

    def test_version(self, run: Run, model: str) -> int | None:
        """The version that the run is to use; waits a moment for an answer that is under way."""
        asking = run.asking.get(model) or self._tell_behind(run, model)
        known: Prompt | None = run.pins.get(model)
        if known is None and asking is not None:
            try:
                known = asking.result(self._settings.test_wait_seconds)
            except Exception:  # noqa: BLE001 - not in time, or nobody knows
                known = None
        standing = self.standing(model)
        if known is None and standing is not None:
            # Whatever the service says later, this run goes on with what serves everybody.
            texts = self._texts.get(standing.content_hash)
            if texts is not None:
                mine = Prompt(
                    run.task_id, model, standing.active_version, None, None, standing.content_hash,
                    texts.template, texts.activation, texts.research, "last_known",
                )
                known = run.pins.setdefault(model, mine)
        if known is None or known.version is None:
            return None
        run.versions[model] = known.version
        unnamed = run.unnamed.get(model)
        if unnamed is not None:
            # It was logged before its version was known: the model's next call logs it again with it.
            run.unnamed[model] = {**unnamed, "version": known.version}
        return known.version

    def _tell_behind(self, run: Run, model: str) -> Future[Prompt] | None:
        if model in run.asking or self._closed.is_set():
            return None
        try:
            # On threads of its own: it waits for one of the others.
            asking = self._readers().submit(self.told, run, model)
        except RuntimeError:
            return None
        run.asking[model] = asking
        return asking

    def readers(self) -> DaemonThreads:
        """The threads that questions of asyncio code wait on."""
        return self._readers()

    def _readers(self) -> DaemonThreads:
        with self._lock:
            if self._reading is None:
                self._reading = DaemonThreads(_THREADS, "mathesis-reader")
            return self._reading

    def _threads(self) -> DaemonThreads:
        with self._lock:
            if self._pool is None:
                self._pool = DaemonThreads(_THREADS, "mathesis-asker")
            return self._pool

    def _service(self) -> Api:
        with self._lock:
            if self._api is None:
                self._api = Api(self._settings, self._settings.ask_timeout_seconds)
            return self._api

    def close(self) -> None:
        self._closed.set()
        for pool in (self._pool, self._reading):
            if pool is not None:
                pool.shutdown(wait=False)


def hash_of(texts: Texts) -> str:
    """SHA-256 over a version's texts, framed as the service frames them."""
    digest = hashlib.sha256()
    for text in (texts.template, texts.activation, texts.research):
        data = text.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def _pin_of(standing: Standing, source: str) -> Pin:
    return Pin(standing.active_version, None, None, standing.content_hash, source)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")
