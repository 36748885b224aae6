"""Who may call the gateway, how often, and over which connections.

`tls` encrypts, and asks clients for certificates; `token_entry`, `tokens` and
`authentication` say who calls, `scopes` what they may call, `caller` for
which users; `admission` and `rate_limit` bound the work that callers can
cause, `heap` what it leaves behind; `circuit_breaker` spares a model server
that fails. `config` has the flags, `wiring` puts all of it around a server.
"""
