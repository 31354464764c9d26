class EmbeddedServerError(Exception):
    """A bundled server cannot run. The message is one line for a person: what, why, what to do."""
