class EmbeddedServerError(Exception):
    """A bundled server cannot run. The message is one line that says what failed, why, and the cure."""
