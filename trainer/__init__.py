"""Trainer: readiness, selection, methods, gate, rounds, schedule. Imports `serving` and `feedback_store`."""
