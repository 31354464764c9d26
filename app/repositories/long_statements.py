from sqlalchemy import text

# For the rest of a transaction whose statements read much: they take minutes, and whole tables.
LONG = text(
    "SELECT set_config('statement_timeout', '5min', true), set_config('enable_seqscan', 'on', true)"
)
