"""Makes the signatures of both schemes, and reads keys."""

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple, Optional, Union

from . import ed25519
from .errors import ErrorCode, WebhookError

SECRET_PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"

Body = Union[bytes, bytearray, memoryview]


class Secret(NamedTuple):
    plain: bytes  # keys Payment-Signature
    standard: bytes  # keys webhook-signature


def strict_base64(text: str) -> Optional[bytes]:
    """Decodes standard base64 with padding, without white space; None if invalid."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None


def _decode(text: object, prefix: str) -> Optional[bytes]:
    if not isinstance(text, str) or not text.startswith(prefix):
        return None
    return strict_base64(text[len(prefix) :])


def parse_secret(secret: object) -> Secret:
    key = _decode(secret, SECRET_PREFIX)
    if not key or not isinstance(secret, str):
        raise WebhookError(ErrorCode.BAD_SECRET)
    return Secret(secret.encode("utf-8"), key)


def parse_public_key(text: object) -> bytes:
    key = _decode(text, PUBLIC_PREFIX)
    if key is None or not ed25519.valid_public_key(key):
        raise WebhookError(ErrorCode.BAD_KEY)
    return key


def _parse_private_key(text: object) -> bytes:
    raw = _decode(text, PRIVATE_PREFIX)
    if raw is not None and len(raw) == 32:
        return raw
    # A signature with a wrong public key would reveal the private key.
    if raw is not None and len(raw) == 64 and ed25519.public_key(raw[:32]) == raw[32:]:
        return raw[:32]
    raise WebhookError(ErrorCode.BAD_KEY)


def content(id: str, timestamp: int, body: Body) -> bytes:
    return f"{id}.{timestamp}.".encode("utf-8", "surrogatepass") + bytes(body)


def plain_signature(key: bytes, body: Body) -> str:
    return hmac.new(key, bytes(body), hashlib.sha256).hexdigest()


def standard_signature(key: bytes, id: str, timestamp: int, body: Body) -> str:
    digest = hmac.new(key, content(id, timestamp, body), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def sign(secret: str, body: Body) -> str:
    """The value of Payment-Signature: 64 lower-case hex digits."""
    return plain_signature(secret.encode("utf-8"), body)


def sign_standard(secret: str, id: str, timestamp: int, body: Body) -> str:
    """One signature of webhook-signature, "v1," included. timestamp is in Unix seconds."""
    return standard_signature(parse_secret(secret).standard, id, timestamp, body)


def sign_ed25519(private_key: str, id: str, timestamp: int, body: Body) -> str:
    """One signature of webhook-signature with a private key ("whsk_…"), "v1a," included.

    Not constant in time: for tests and tools, not for servers.
    """
    signature = ed25519.sign(_parse_private_key(private_key), content(id, timestamp, body))
    return "v1a," + base64.b64encode(signature).decode("ascii")
