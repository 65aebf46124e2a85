"""Rounds that survive: attempts of a round, and the due times of the schedule."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("rounds", sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("deployments", sa.Column("evidence", sa.JSON()))
    op.create_table(
        "round_dues",
        sa.Column("due", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("round_id", ROW_ID),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('waiting','asked','skipped')", name=op.f("ck_round_dues_state")),
        sa.CheckConstraint("(round_id IS NOT NULL) = (state = 'asked')", name=op.f("ck_round_dues_round")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_round_dues_round_id")),
        sa.PrimaryKeyConstraint("due", name=op.f("pk_round_dues")),
        sa.UniqueConstraint("round_id", name=op.f("uq_round_dues_round_id")),
    )
