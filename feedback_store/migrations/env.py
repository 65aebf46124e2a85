"""Run by alembic: applies revisions over the connection that `migrate` hands in."""

from alembic import context

from feedback_store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a table in place: alembic then copies it.
    render_as_batch=True,
)
context.run_migrations()
