"""The HTTP API; with no database configured, the whole service in one process."""

from app.cli import main

if __name__ == "__main__":
    main(["serve"])
