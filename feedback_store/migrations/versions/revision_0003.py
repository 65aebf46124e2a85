"""Rounds that survive, trust in raters, a human look at candidates, and what is left of erased feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)
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
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("state IN ('waiting','asked','skipped')", name=op.f("ck_round_dues_state")),
        sa.CheckConstraint("(round_id IS NOT NULL) = (state = 'asked')", name=op.f("ck_round_dues_round")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_round_dues_round_id")),
        sa.PrimaryKeyConstraint("due", name=op.f("pk_round_dues")),
        sa.UniqueConstraint("round_id", name=op.f("uq_round_dues_round_id")),
    )
    op.create_table(
        "quarantines",
        sa.Column("quarantine_id", ROW_ID, nullable=False),
        sa.Column("rater_id", sa.String(64), nullable=False),
        sa.Column("feedback_id", ROW_ID),
        sa.Column("signal", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("begun_by", sa.Text(), nullable=False),
        sa.Column("begun_at", TIME, nullable=False),
        sa.Column("decision", sa.String(16)),
        sa.Column("decided_by", sa.Text()),
        sa.Column("decided_at", TIME),
        sa.CheckConstraint("signal IN ('flood','ring','phrase','by_hand')", name=op.f("ck_quarantines_signal")),
        sa.CheckConstraint("decision IN ('released','kept')", name=op.f("ck_quarantines_decision")),
        sa.CheckConstraint("(decision IS NULL) = (decided_at IS NULL)", name=op.f("ck_quarantines_decided")),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.rater_id"], name=op.f("fk_quarantines_rater_id")),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.feedback_id"], name=op.f("fk_quarantines_feedback_id")),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantines")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_quarantines_rater_id", "quarantines", ["rater_id"])
    op.create_index("ix_quarantines_feedback_id", "quarantines", ["feedback_id"])
    op.create_table(
        "side_by_side_votes",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("example", sa.Integer(), nullable=False),
        sa.Column("viewer", sa.String(64), nullable=False),
        sa.Column("choice", sa.String(16), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("choice IN ('before','after','tie','both_bad')", name=op.f("ck_side_by_side_votes_choice")),
        sa.ForeignKeyConstraint(["version"], ["policy_versions.version"], name=op.f("fk_side_by_side_votes_version")),
        sa.PrimaryKeyConstraint("version", "example", "viewer", name=op.f("pk_side_by_side_votes")),
    )
    op.create_table(
        "vetoes",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["policy_versions.version"], name=op.f("fk_vetoes_version")),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_vetoes")),
    )
    op.create_table(
        "erased_selections",
        sa.Column("erasure_id", ROW_ID, nullable=False),
        sa.Column("round_id", ROW_ID, nullable=False),
        sa.Column("acts", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_erased_selections_round_id")),
        sa.PrimaryKeyConstraint("erasure_id", name=op.f("pk_erased_selections")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_erased_selections_round_id", "erased_selections", ["round_id"])
