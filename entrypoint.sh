#!/bin/sh
# Wait for the database, migrate it to the newest revision, then run the command in place of this shell.
set -eu

host=${DB_HOST:-db} port=${DB_PORT:-5432} seconds=${DB_WAIT_SECONDS:-60}

deadline=$(($(date +%s) + seconds))
until nc -z -w 2 "$host" "$port" 2>/dev/null; do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "entrypoint: no database at $host:$port after $seconds s: see DB_HOST and DB_PORT" >&2
    exit 1
  fi
  sleep 1
done

# Four containers do this at the same time. migrations/env.py takes a lock, so one migrates and the others wait.
(cd app && alembic upgrade head)

exec "$@"
