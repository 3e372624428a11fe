"""The common part of the middlewares: verify deliveries, count refused ones, and process an event once."""

import json
import logging
import math
import threading
from collections import deque
from typing import Callable, Deque, Mapping, Optional, Protocol

from .errors import WebhookError
from .verifier import Verifier

DEFAULT_MAX_BODY = 1 << 20
DEFAULT_ALERT_WINDOW = 600  # seconds


class Seen(Protocol):
    """Stores which events were processed. Called by several threads."""

    def processed(self, id: str) -> bool: ...

    def mark_processed(self, id: str) -> None: ...


class Refusals:
    """Counts refused deliveries in a sliding window.

    Stores at most alert_after times. Safe for use by several threads.
    """

    def __init__(self, after: int, window: float) -> None:
        self._after, self._window = after, window if window > 0 else DEFAULT_ALERT_WINDOW
        self._lock = threading.Lock()
        self._at: Deque[float] = deque()  # refusals since the last alert and within the window, oldest first
        self._alerted = -math.inf  # time of the last alert
        self._total = 0  # refusals in alerts that followed one another within a window

    def add(self, now: float) -> int:
        """Records a refusal and returns the total to alert with, or 0. now is in Unix seconds."""
        if self._after <= 0:
            return 0
        with self._lock:
            while self._at and now - self._at[0] > self._window:
                self._at.popleft()
            self._at.append(now)
            if len(self._at) < self._after:
                return 0
            if now - self._alerted > self._window:
                self._total = 0
            self._total += len(self._at)
            self._alerted = now
            self._at.clear()
            return self._total


class Receiver:
    def __init__(
        self,
        verifier: Verifier,
        *,
        seen: Optional[Seen] = None,
        max_body: int = DEFAULT_MAX_BODY,
        logger: Optional[logging.Logger] = None,
        alert_after: int = 0,
        alert_window: float = DEFAULT_ALERT_WINDOW,
        alert: Optional[Callable[[int], None]] = None,
    ) -> None:
        self.verifier, self.seen, self.max_body = verifier, seen, max_body
        self.logger = logger or logging.getLogger("posthaste_webhook")
        self.alert = alert
        self._refusals = Refusals(alert_after, alert_window)

    def verify(self, headers: Mapping[str, str], body: bytes, remote: str) -> str:
        """Returns the event's id, or "" if it has none.

        Counts, logs and raises a WebhookError if the delivery is refused.
        """
        try:
            signed = self.verifier.verify(headers, body)
        except WebhookError as err:
            self._refused(err, remote)
            raise
        try:
            event = json.loads(body)
        except ValueError:
            return signed
        # Both schemes sign the id in the body; only one signs webhook-id.
        id = event.get("id") if isinstance(event, dict) else None
        return id if isinstance(id, str) and id else signed

    def _refused(self, err: WebhookError, remote: str) -> None:
        self.logger.warning("webhook refused: %s remote=%s", err, remote)
        refused = self._refusals.add(self.verifier.now())
        if refused and self.alert:
            self.alert(refused)

    def was_processed(self, id: str) -> bool:
        """Logs errors of the store and raises them."""
        if self.seen is None or not id:
            return False
        try:
            return self.seen.processed(id)
        except Exception:
            self.logger.exception("look up processed event %s", id)
            raise

    def mark(self, id: str, status: int) -> None:
        """Marks an event that was answered with a 2xx as processed."""
        if self.seen is None or not id or not 200 <= status < 300:
            return
        try:
            self.seen.mark_processed(id)
        except Exception:
            self.logger.exception("remember processed event %s", id)
