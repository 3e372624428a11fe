"""Verify (and sign) webhook deliveries. Standard library only.

A delivery has Payment-Signature, the HMAC-SHA256 of its body, and the three headers of Standard Webhooks, which
also cover the id and the time. :class:`Verifier` verifies them with the raw body; :class:`WSGIMiddleware` and
:class:`ASGIMiddleware` do so before an application is called.
"""

from .asgi import ASGIMiddleware
from .errors import ErrorCode, WebhookError
from .receiver import Seen
from .signing import sign, sign_ed25519, sign_standard
from .stores import KeyValueStore, MemoryStore, SQLStore
from .verifier import Verifier
from .wsgi import WSGIMiddleware

__all__ = [
    "ASGIMiddleware",
    "ErrorCode",
    "KeyValueStore",
    "MemoryStore",
    "SQLStore",
    "Seen",
    "Verifier",
    "WSGIMiddleware",
    "WebhookError",
    "sign",
    "sign_ed25519",
    "sign_standard",
]
