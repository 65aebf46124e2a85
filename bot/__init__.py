"""The bots that Thumbwise runs itself; each speaks the public HTTP API like any other client."""
