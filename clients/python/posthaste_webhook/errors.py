"""Why a delivery or a key is refused."""

import enum


class ErrorCode(str, enum.Enum):
    NO_SIGNATURE = "no_signature"  # or only the plain one although the standard one is required
    MALFORMED = "malformed"  # a signature header is malformed
    BAD_SIGNATURE = "bad_signature"  # the secret is a different one, or the body was changed
    TOO_OLD = "too_old"  # a replay, or a wrong clock
    TOO_NEW = "too_new"
    BAD_SECRET = "bad_secret"  # an argument of the verifier
    BAD_KEY = "bad_key"


_MESSAGES = {
    ErrorCode.NO_SIGNATURE: "The request has no signature.",
    ErrorCode.MALFORMED: "A signature header is malformed.",
    ErrorCode.BAD_SIGNATURE: "No signature matches the body and the keys.",
    ErrorCode.TOO_OLD: "The timestamp is too old.",
    ErrorCode.TOO_NEW: "The timestamp is in the future.",
    ErrorCode.BAD_SECRET: 'A secret must be "whsec_" followed by standard base64.',
    ErrorCode.BAD_KEY: 'A key must be "whsk_" or "whpk_" followed by standard base64 of an Ed25519 key.',
}


class WebhookError(Exception):
    """A delivery or a key is refused. Its text contains no key, signature or body."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(_MESSAGES[code])
        self.code = code
