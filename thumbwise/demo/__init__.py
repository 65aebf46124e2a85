"""A seeded crowd that uses Thumbwise as people do, to show that a round learns from votes.

Everything here speaks the public HTTP API through `thumbwise.client` and imports nothing else of ours: what the crowd
likes is known in this process alone and never reaches the trainer.
"""
