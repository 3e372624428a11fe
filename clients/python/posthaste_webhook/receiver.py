"""What the middlewares share: verifying, counting what is refused, and working on an event once."""

import json
import logging
import threading
from typing import Callable, Mapping, Optional, Protocol

from .errors import WebhookError
from .verifier import Verifier

DEFAULT_MAX_BODY = 1 << 20


class Seen(Protocol):
    """Remembers which events were processed. Called by several threads."""

    def processed(self, id: str) -> bool: ...

    def mark_processed(self, id: str) -> None: ...


class Receiver:
    def __init__(
        self,
        verifier: Verifier,
        *,
        seen: Optional[Seen] = None,
        max_body: int = DEFAULT_MAX_BODY,
        logger: Optional[logging.Logger] = None,
        alert_after: int = 0,
        alert: Optional[Callable[[int], None]] = None,
    ) -> None:
        self.verifier, self.seen, self.max_body = verifier, seen, max_body
        self.logger = logger or logging.getLogger("posthaste_webhook")
        self.alert_after, self.alert = alert_after, alert
        self._lock = threading.Lock()
        self._refused_in_a_row = 0

    def verify(self, headers: Mapping[str, str], body: bytes, remote: str) -> str:
        """Returns the event's id, "" if it has none. Raises WebhookError, counted and logged, when it is refused."""
        try:
            signed = self.verifier.verify(headers, body)
        except WebhookError as err:
            self._refused(err, remote)
            raise
        with self._lock:
            self._refused_in_a_row = 0
        try:
            event = json.loads(body)
        except ValueError:
            return signed
        # The body's id is signed under both schemes, which webhook-id is not.
        id = event.get("id") if isinstance(event, dict) else None
        return id if isinstance(id, str) and id else signed

    def _refused(self, err: WebhookError, remote: str) -> None:
        with self._lock:
            self._refused_in_a_row += 1
            n = self._refused_in_a_row
        self.logger.warning("webhook refused: %s remote=%s in_a_row=%d", err, remote, n)
        if self.alert and self.alert_after > 0 and n % self.alert_after == 0:
            self.alert(n)

    def was_processed(self, id: str) -> bool:
        """Raises what the store raises, logged."""
        if self.seen is None or not id:
            return False
        try:
            return self.seen.processed(id)
        except Exception:
            self.logger.exception("look up processed event %s", id)
            raise

    def mark(self, id: str, status: int) -> None:
        """Remembers an event that was answered with a 2xx."""
        if self.seen is None or not id or not 200 <= status < 300:
            return
        try:
            self.seen.mark_processed(id)
        except Exception:
            self.logger.exception("remember processed event %s", id)
