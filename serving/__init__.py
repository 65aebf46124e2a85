"""Serving: the policy engine, the swap, and the OpenAI-compatible API. Imports `feedback_store` alone."""
