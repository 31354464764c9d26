"""What a browser may load and run on the pages of the documentation."""

from base64 import b64encode
from hashlib import sha256


def script_policy(script: bytes, *more: str) -> str:
    """Nothing from other origins, and no script but our files and the page's one inline `script`.
    `more` is what its scripts may do beside that, as `script-src` has it."""
    digest = b64encode(sha256(script).digest()).decode()
    sources = " ".join(["'self'", *more, f"'sha256-{digest}'"])
    return (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'; "
        f"script-src {sources}"
    )
