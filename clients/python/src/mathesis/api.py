"""The calls of the service that a pipeline needs, over HTTP. docs/api.md describes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from .settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServiceError(Exception):
    """The service did not do what it was asked."""


class Unreachable(ServiceError):
    """Nobody answered, or not in time."""


class Refused(ServiceError):
    """It answered no. ``code`` is stable; without one, something before the service answered."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after

    @property
    def will_pass(self) -> bool:
        """True for a failure that goes by itself: the same call may be made again later."""
        return self.status in (408, 425, 429) or self.status >= 500


@dataclass(frozen=True)
class Rejection:
    """One event of a delivery that the service will not take."""

    index: int
    code: str
    detail: str


@dataclass(frozen=True)
class Standing:
    """How a model stands."""

    active_version: int
    content_hash: str
    testing: bool
    cycle: int | None
    etag: str | None


@dataclass(frozen=True)
class Assignment:
    """Which version a run was told."""

    version: int
    arm: str | None
    cycle: int | None
    content_hash: str
    pair: int | None = None
    """The second version of a paired task, which is done under both."""


@dataclass(frozen=True)
class Texts:
    """A version's texts, which never change."""

    content_hash: str
    template: str
    activation: str
    research: str


class Api:
    """One workflow of a service. May be shared by threads."""

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._settings = settings
        headers = {"User-Agent": "mathesis-python/0.1.0"}
        if settings.key:
            headers["Authorization"] = f"Bearer {settings.key}"
        # A proxy of the environment is for the world outside, not for this machine.
        local = urlsplit(settings.url).hostname in LOOPBACK
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 5.0)),
            trust_env=not local,
            # Loading the certificates takes long, and plain HTTP needs none.
            verify=not settings.url.startswith("http://"),
        )
        self._base = f"{settings.url.rstrip('/')}/v1/workflows/{quote(settings.workflow, safe='')}"

    def close(self) -> None:
        self._http.close()

    def send_events(self, body: bytes) -> list[Rejection]:
        """Delivers lines of events; returns only when the service has committed them."""
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self._call("POST", f"{self._base}/events", content=body, headers=headers)
        report = _object(answer)
        if "accepted" not in report:
            raise Refused(answer.status_code, "none", "something else than Mathesis answered")
        return [
            Rejection(int(one["index"]), str(one["code"]), str(one["detail"]))
            for one in report.get("rejected", [])
        ]

    def standing(self, model: str, etag: str | None) -> Standing | None:
        """How a model stands; ``None`` when it still is what the tag names."""
        headers = {"If-None-Match": etag} if etag else {}
        answer = self._call("GET", f"{self._base}/models/{quote(model, safe='')}", headers=headers)
        if answer.status_code == 304:
            return None
        told = _object(answer)
        return Standing(
            active_version=int(told["active_version"]),
            content_hash=str(told["content_hash"]),
            testing=bool(told["testing"]),
            cycle=told.get("cycle"),
            etag=answer.headers.get("etag"),
        )

    def assign(self, task: str, run: str, model: str) -> Assignment:
        """Asks which version a run gets; deals during a test. The same however often it is asked."""
        path = f"{self._base}/tasks/{quote(task, safe='')}/assignments/{quote(model, safe='')}"
        told = _object(self._call("PUT", path, params={"run": run} if run else {}))
        return Assignment(
            version=int(told["version"]),
            arm=told.get("arm"),
            cycle=told.get("cycle"),
            content_hash=str(told["content_hash"]),
            pair=told.get("pair"),
        )

    def texts(self, model: str, version: int) -> Texts:
        """One version's texts."""
        path = f"{self._base}/models/{quote(model, safe='')}/versions/{version}"
        told = _object(self._call("GET", path))
        return Texts(
            content_hash=str(told["content_hash"]),
            template=str(told["template"]),
            activation=str(told["activation"]),
            research=str(told["research"]),
        )

    def versions(self, model: str) -> list[int]:
        """The numbers of a model's versions, newest first."""
        told = _object(self._call("GET", f"{self._base}/models/{quote(model, safe='')}/versions"))
        return [int(one["version"]) for one in told["versions"]]

    def active_versions(self) -> dict[str, int]:
        """The models and their active versions, as the open cycle shows them."""
        told = _object(self._call("GET", f"{self._base}/cycle"))
        return {
            str(one["model"]): int(one["active_version"])
            for one in told["models"]
            if one.get("active_version") is not None
        }

    def ready(self) -> None:
        """Returns when the service is up and its database answers."""
        self._call("GET", f"{self._settings.url.rstrip('/')}/readyz")

    def _call(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, url, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unreachable(f"{self._settings.url}: {type(error).__name__}: {error}") from error
        if answer.status_code not in (200, 304):
            raise _refusal(answer)
        return answer


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = json.loads(answer.content)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Refused(502, "none", "something else than Mathesis answered 200")
    return told


def _refusal(answer: httpx.Response) -> Refused:
    code, detail = "none", f"{answer.reason_phrase or 'no words'}"
    try:
        told = json.loads(answer.content)
        if isinstance(told, dict) and isinstance(told.get("code"), str):
            code, detail = told["code"], str(told.get("detail", ""))
    except ValueError:
        pass
    retry_after: float | None = None
    try:
        retry_after = max(0.0, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):
        pass
    return Refused(answer.status_code, code, detail, retry_after)
