"""What a browser may load, run and send on our pages."""

from base64 import b64encode
from hashlib import sha256

_OF_ALL = (
    "default-src 'none'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; "
    "style-src 'self' 'unsafe-inline'"
)


def policy(*scripts: str, forms: str = "'none'") -> str:
    """Nothing from other origins, and no script but those from the sources named, as `script-src`
    has them. `forms` is where the page may send one."""
    more = f"; script-src {' '.join(scripts)}; connect-src 'self'" if scripts else ""
    return f"{_OF_ALL}; form-action {forms}{more}"


def inline(script: bytes) -> str:
    """The source of a script that stands in the page."""
    return f"'sha256-{b64encode(sha256(script).digest()).decode()}'"
