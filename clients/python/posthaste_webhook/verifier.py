"""Verifies deliveries."""

import hmac
import re
import time
from typing import Callable, Iterable, List, Mapping, Union

from . import ed25519
from .errors import ErrorCode, WebhookError
from .signing import (
    PUBLIC_PREFIX,
    Body,
    Secret,
    content,
    parse_public_key,
    parse_secret,
    plain_signature,
    standard_signature,
    strict_base64,
)

DEFAULT_TOLERANCE = 300  # seconds, in both directions
_MAX_SIGNATURES = 32
_STAMP = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")


def _same(given: str, want: str) -> bool:
    """Compares two texts, in constant time for their length."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), want.encode("ascii"))


class Verifier:
    """Verifies deliveries with one or more secrets ("whsec_…") and Ed25519 public keys ("whpk_…").

    tolerance is the largest difference of webhook-timestamp from now, in seconds. require_standard refuses deliveries
    without the Standard Webhooks headers, because they can be replayed. now is the clock, in Unix seconds. Safe for use
    by several threads.
    """

    def __init__(
        self,
        keys: Union[str, Iterable[str]],
        *,
        tolerance: int = DEFAULT_TOLERANCE,
        signature_header: str = "Payment-Signature",
        require_standard: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._secrets: List[Secret] = []
        self._public_keys: List[bytes] = []
        for key in [keys] if isinstance(keys, str) else list(keys):
            if isinstance(key, str) and key.startswith(PUBLIC_PREFIX):
                self._public_keys.append(parse_public_key(key))
            else:
                self._secrets.append(parse_secret(key))
        if not self._secrets and not self._public_keys:
            raise WebhookError(ErrorCode.BAD_SECRET)
        self.tolerance = tolerance
        self.signature_header = signature_header
        self.require_standard = require_standard
        self.now = now

    def verify(self, headers: Mapping[str, str], raw_body: Body) -> str:
        """Returns the webhook-id if a signature covers it, else "". Raises WebhookError if no signature matches.

        raw_body is the unchanged bytes, never a parsed and re-encoded object. Names of headers may be in any case.
        """
        if isinstance(raw_body, str) or not isinstance(raw_body, (bytes, bytearray, memoryview)):
            raise TypeError("raw_body must be the unchanged bytes of the body")
        found = {name.lower(): value for name, value in headers.items()}
        signatures = found.get("webhook-signature", "")
        if signatures:
            id = found.get("webhook-id", "")
            self._verify_standard(id, found.get("webhook-timestamp", ""), signatures, raw_body)
            return id
        plain = found.get(self.signature_header.lower(), "")
        if not plain or self.require_standard or not self._secrets:
            raise WebhookError(ErrorCode.NO_SIGNATURE)
        self._verify_plain(plain, raw_body)
        return ""

    def _verify_standard(self, id: str, stamp: str, signatures: str, body: Body) -> None:
        if not id or not _STAMP.fullmatch(stamp):
            raise WebhookError(ErrorCode.MALFORMED)
        seconds = int(stamp)
        age = int(self.now()) - seconds
        if age > self.tolerance:
            raise WebhookError(ErrorCode.TOO_OLD)
        if -age > self.tolerance:
            raise WebhookError(ErrorCode.TOO_NEW)
        if signatures.count(",") > _MAX_SIGNATURES:
            raise WebhookError(ErrorCode.MALFORMED)
        given = signatures.split(" ")
        for secret in self._secrets:
            want = standard_signature(secret.standard, id, seconds, body)
            if any(_same(g, want) for g in given):
                return
        if self._public_keys and self._fits_public_key(given, content(id, seconds, body)):
            return
        raise WebhookError(ErrorCode.BAD_SIGNATURE)

    def _fits_public_key(self, given: List[str], signed: bytes) -> bool:
        for g in given:
            signature = strict_base64(g[len("v1a,") :]) if g.startswith("v1a,") else None
            if signature and any(ed25519.verify(key, signed, signature) for key in self._public_keys):
                return True
        return False

    def _verify_plain(self, given: str, body: Body) -> None:
        if not _HEX.fullmatch(given):
            raise WebhookError(ErrorCode.MALFORMED)
        if not any(_same(given, plain_signature(secret.plain, body)) for secret in self._secrets):
            raise WebhookError(ErrorCode.BAD_SIGNATURE)
