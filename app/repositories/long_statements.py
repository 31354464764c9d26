from sqlalchemy import text

# For the rest of a transaction. Its statements may take minutes, and may read whole tables.
LONG = text(
    "SELECT set_config('statement_timeout', '5min', true), set_config('enable_seqscan', 'on', true)"
)
