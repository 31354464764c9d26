class CliError(Exception):
    """Why a script cannot go on. The message is one line for the person who started it."""
