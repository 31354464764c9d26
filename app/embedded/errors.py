class EmbeddedServerError(Exception):
    """A bundled server cannot run. The message is one line: what failed, why, and the cure."""
