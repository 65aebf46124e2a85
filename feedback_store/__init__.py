"""The store: what was said, who liked it, which policy said it, and what was learnt from it.

Imports nothing of ours. `Store` gives transactions; the queries are plain functions of a connection, one module a noun.
"""
