"""The HTTP API; with no database configured, the whole service on embedded servers."""

from app.cli import main

if __name__ == "__main__":
    main(["serve"])
