"""Who may do what: people and their roles, sessions, keys for programs, and the one table of routes.

    roles.py      the ladder end user < annotator < operator < admin, and the scopes of keys
    rules.py      the one table: route → who may use it. A route that is not in it does not start
    users.py      people, invitations, passwords' hashes        passwords.py   argon2, in a thread
    sessions.py   what a browser's cookie stands for            attempts.py    how often a guess may fail
    providers.py  where GitHub and Discord are asked          flows.py       the way there and back, for one browser
    accounts.py   accounts there that open a place here
    keys.py       API keys: shown once, kept as a hash          ../audit.py    who did what, when and why

Deny by default: what no rule allows is refused, and a test lists every route of the application against the table.
"""
