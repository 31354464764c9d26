"""How long a request may take, unless its route says otherwise."""

REQUEST_SECONDS = 2.5
