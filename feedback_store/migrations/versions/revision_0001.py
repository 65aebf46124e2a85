"""The first schema: raters, conversations, replies, comparisons, feedback, rounds, versions, deployments."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(64)
WORD = sa.String(16)


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("conversation_id", NAME, nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("conversation_id", name=op.f("pk_conversations")),
    )
    op.create_table(
        "raters",
        sa.Column("rater_id", NAME, nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("consent", sa.Boolean()),
        sa.Column("consent_version", sa.Integer()),
        sa.Column("quarantined", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("rater_id", name=op.f("pk_raters")),
    )
    op.create_table(
        "rounds",
        sa.Column("round_id", ROW_ID, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("open_slot", sa.Integer()),
        sa.Column("method", WORD),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", TIME),
        sa.Column("fence", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reference_version", sa.Integer()),
        sa.Column("candidate_version", sa.Integer()),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("gate_report", sa.JSON()),
        sa.Column("reason", sa.Text()),
        sa.CheckConstraint(
            "(open_slot IS NULL) = (state IN ('published','rejected','failed','cancelled'))",
            name=op.f("ck_rounds_open_slot"),
        ),
        sa.CheckConstraint(
            "state IN ('requested','selecting','training','gating','published','rejected','failed','cancelled')",
            name=op.f("ck_rounds_state"),
        ),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("open_slot", name=op.f("uq_rounds_open_slot")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "comparisons",
        sa.Column("comparison_id", NAME, nullable=False),
        sa.Column("reply_ids", sa.JSON(), nullable=False),
        sa.Column("rater_id", NAME),
        sa.Column("conversation_id", NAME),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.conversation_id"], name=op.f("fk_comparisons_conversation_id")
        ),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.rater_id"], name=op.f("fk_comparisons_rater_id")),
        sa.PrimaryKeyConstraint("comparison_id", name=op.f("pk_comparisons")),
    )
    op.create_table(
        "policy_versions",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("adapter_sha256", NAME),
        sa.Column("parent", sa.Integer()),
        sa.Column("method", WORD),
        sa.Column("round_id", ROW_ID),
        sa.Column("gate_report", sa.JSON()),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "state IN ('candidate','canary','live','retired','rejected')", name=op.f("ck_policy_versions_state")
        ),
        sa.CheckConstraint(
            "(version = 1) = (adapter_sha256 IS NULL)", name=op.f("ck_policy_versions_base_is_version_1")
        ),
        sa.ForeignKeyConstraint(["parent"], ["policy_versions.version"], name=op.f("fk_policy_versions_parent")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_policy_versions_round_id")),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_policy_versions")),
        sa.UniqueConstraint("round_id", name=op.f("uq_policy_versions_round_id")),
    )
    op.create_table(
        "round_metrics",
        sa.Column("round_id", ROW_ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_round_metrics_round_id")),
        sa.PrimaryKeyConstraint("round_id", "name", "step", name=op.f("pk_round_metrics")),
    )
    op.create_table(
        "deployments",
        sa.Column("deployment_id", ROW_ID, nullable=False),
        sa.Column("action", WORD, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("from_version", sa.Integer()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("action IN ('bootstrap','promote','rollback')", name=op.f("ck_deployments_action")),
        sa.ForeignKeyConstraint(
            ["from_version"], ["policy_versions.version"], name=op.f("fk_deployments_from_version")
        ),
        sa.ForeignKeyConstraint(["version"], ["policy_versions.version"], name=op.f("fk_deployments_version")),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_deployments")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "live_pointer",
        sa.Column("pointer_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("pointer_id = 1", name=op.f("ck_live_pointer_one_row")),
        sa.ForeignKeyConstraint(["version"], ["policy_versions.version"], name=op.f("fk_live_pointer_version")),
        sa.PrimaryKeyConstraint("pointer_id", name=op.f("pk_live_pointer")),
    )
    op.create_table(
        "replies",
        sa.Column("reply_id", NAME, nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("adapter_sha256", NAME),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("rater_id", NAME),
        sa.Column("conversation_id", NAME),
        sa.Column("messages", sa.JSON()),
        sa.Column("rendered_prompt", sa.Text()),
        sa.Column("text", sa.Text()),
        sa.Column("finish_reason", WORD, nullable=False),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("logprob_nats", sa.Float()),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("comparison_id", NAME),
        sa.Column("shown_position", sa.Integer()),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("finish_reason IN ('stop','length','cancelled')", name=op.f("ck_replies_finish_reason")),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.conversation_id"], name=op.f("fk_replies_conversation_id")
        ),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policy_versions.version"], name=op.f("fk_replies_policy_version")
        ),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.rater_id"], name=op.f("fk_replies_rater_id")),
        sa.PrimaryKeyConstraint("reply_id", name=op.f("pk_replies")),
    )
    op.create_index(op.f("ix_replies_comparison_id"), "replies", ["comparison_id"])
    op.create_index(op.f("ix_replies_conversation_id_created_at"), "replies", ["conversation_id", "created_at"])
    op.create_index(op.f("ix_replies_created_at"), "replies", ["created_at"])
    op.create_index(op.f("ix_replies_rater_id_created_at"), "replies", ["rater_id", "created_at"])
    op.create_table(
        "feedback",
        sa.Column("feedback_id", ROW_ID, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("rater_id", NAME, nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("reply_id", NAME),
        sa.Column("comparison_id", NAME),
        sa.Column("thumb", sa.String(length=8)),
        sa.Column("verdict", NAME),
        sa.Column("ranking", sa.JSON()),
        sa.Column("correction", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("idempotency_key", sa.String(length=255)),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "(kind IN ('thumb','correction') AND reply_id IS NOT NULL AND comparison_id IS NULL)"
            " OR (kind IN ('verdict','ranking') AND comparison_id IS NOT NULL AND reply_id IS NULL)",
            name=op.f("ck_feedback_target"),
        ),
        sa.CheckConstraint(
            "thumb IS NULL OR (kind = 'thumb' AND thumb IN ('up','down'))", name=op.f("ck_feedback_thumb")
        ),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.comparison_id"], name=op.f("fk_feedback_comparison_id")
        ),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.rater_id"], name=op.f("fk_feedback_rater_id")),
        sa.ForeignKeyConstraint(["reply_id"], ["replies.reply_id"], name=op.f("fk_feedback_reply_id")),
        sa.PrimaryKeyConstraint("feedback_id", name=op.f("pk_feedback")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_feedback_comparison_id",
        "feedback",
        ["comparison_id"],
        sqlite_where=sa.text("comparison_id IS NOT NULL"),
        postgresql_where=sa.text("comparison_id IS NOT NULL"),
    )
    op.create_index("ix_feedback_reply_id", "feedback", ["reply_id"])
    op.create_index(
        "uq_feedback_rater_id_idempotency_key",
        "feedback",
        ["rater_id", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_table(
        "round_selection",
        sa.Column("round_id", ROW_ID, nullable=False),
        sa.Column("feedback_id", ROW_ID, nullable=False),
        sa.Column("split", WORD, nullable=False),
        sa.CheckConstraint("split IN ('train','held_out')", name=op.f("ck_round_selection_split")),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.feedback_id"], name=op.f("fk_round_selection_feedback_id")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_round_selection_round_id")),
        sa.PrimaryKeyConstraint("round_id", "feedback_id", name=op.f("pk_round_selection")),
    )
