#!/bin/sh
# Wait for the database, migrate it to the newest revision, then run the command in place of this shell.
set -eu

export DB_WAIT_SECONDS="${DB_WAIT_SECONDS:-60}"

# Four containers do this at the same time. migrations/env.py waits for the database and takes a lock, so one migrates
# and the others wait.
(cd app && alembic upgrade head)

exec "$@"
