"""Middleware for WSGI applications (PEP 3333): Flask, Django and others."""

import io
import threading
from typing import Any, Callable, Dict, Iterable, List, Tuple

from .errors import WebhookError
from .receiver import Receiver
from .verifier import Verifier

_ID = "posthaste_webhook.id"


class WSGIMiddleware:
    """Calls app for verified deliveries only, with the body to read again from wsgi.input.

    Others get 401. With a seen store, an event that was processed before is answered with 200; while one delivery of an
    event is processed in this process, another one waits. Options are those of ASGIMiddleware: seen, max_body (bytes),
    logger, alert_after, alert_window, alert. The event's id is environ["posthaste_webhook.id"].
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], verifier: Verifier, **options: Any) -> None:
        self._app = app
        self._receiver = Receiver(verifier, **options)
        self._changed = threading.Condition()
        self._running: "set[str]" = set()

    def __call__(self, environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def answer(status: str, text: str) -> List[bytes]:
            body = text.encode("utf-8")
            start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
            return [body]

        length = environ.get("CONTENT_LENGTH") or "0"
        if not length.isdigit():
            return answer("400 Bad Request", "Body could not be read")
        size = int(length)
        if size > self._receiver.max_body:
            return answer("413 Content Too Large", "Body too large")
        body = environ["wsgi.input"].read(size)
        if len(body) != size:
            return answer("400 Bad Request", "Body could not be read")
        headers = {k[5:].replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_")}
        try:
            id = self._receiver.verify(headers, body, environ.get("REMOTE_ADDR", ""))
        except WebhookError:
            return answer("401 Unauthorized", "Invalid signature")
        environ["wsgi.input"] = io.BytesIO(body)
        environ[_ID] = id
        if self._receiver.seen is None or not id:
            return self._app(environ, start_response)
        self._claim(id)
        try:
            if self._receiver.was_processed(id):
                return answer("200 OK", "Event already processed")
        except Exception:  # twice is better than never: the sender tries again
            return answer("503 Service Unavailable", "Try again")
        else:
            return self._once(id, environ, start_response)
        finally:
            self._release(id)

    def _once(self, id: str, environ: Dict[str, Any], start_response: Callable[..., Any]) -> List[bytes]:
        """Processes the event. The response is collected, so that the event is marked before it is sent."""
        started: List[Tuple[str, Any, Any]] = []
        written: List[bytes] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
            started[:] = [(status, headers, exc_info)]
            return written.append

        parts = self._app(environ, start)
        try:
            written.extend(parts)
        finally:
            close = getattr(parts, "close", None)
            if close:
                close()
        status, headers, exc_info = started[0]
        self._receiver.mark(id, int(status.split(" ", 1)[0]))
        if exc_info:
            start_response(status, headers, exc_info)
        else:
            start_response(status, headers)
        return written

    def _claim(self, id: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: id not in self._running)
            self._running.add(id)

    def _release(self, id: str) -> None:
        with self._changed:
            self._running.discard(id)
            self._changed.notify_all()
