"""Why a delivery or a key is refused."""

import enum


class ErrorCode(str, enum.Enum):
    NO_SIGNATURE = "no_signature"  # or only the plain one where the standard is required
    MALFORMED = "malformed"  # a header is not what its scheme writes
    BAD_SIGNATURE = "bad_signature"  # another secret, or a body that was changed
    TOO_OLD = "too_old"  # a replay, or a wrong clock
    TOO_NEW = "too_new"
    BAD_SECRET = "bad_secret"  # what was given to the verifier
    BAD_KEY = "bad_key"


_MESSAGES = {
    ErrorCode.NO_SIGNATURE: "The request carries no signature.",
    ErrorCode.MALFORMED: "A signature header is malformed.",
    ErrorCode.BAD_SIGNATURE: "No signature fits the body and the keys.",
    ErrorCode.TOO_OLD: "The timestamp is too old.",
    ErrorCode.TOO_NEW: "The timestamp is in the future.",
    ErrorCode.BAD_SECRET: 'A secret is "whsec_" followed by standard base64.',
    ErrorCode.BAD_KEY: 'A key is "whsk_" or "whpk_" followed by standard base64 of an Ed25519 key.',
}


class WebhookError(Exception):
    """A delivery or a key is refused. Holds no key, signature or body."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(_MESSAGES[code])
        self.code = code
