"""Operators and annotators: the inbox and what is yet to be put into it, review acts, saved views, annotation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TIME = sa.DateTime(timezone=True)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(64)
WORD = sa.String(16)


def upgrade() -> None:
    op.create_table(
        "annotation_requests",
        sa.Column("request_id", ROW_ID, nullable=False),
        sa.Column("queue", WORD, nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "queue IN ('uncertain','disputed','random','candidates')", name=op.f("ck_annotation_requests_queue")
        ),
        sa.CheckConstraint("wanted > 0", name=op.f("ck_annotation_requests_wanted")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_annotation_requests")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "inbox",
        sa.Column("item_id", ROW_ID, nullable=False),
        sa.Column("reply_id", NAME, nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("raters", sa.Integer(), nullable=False),
        sa.Column("ups", sa.Integer(), nullable=False),
        sa.Column("downs", sa.Integer(), nullable=False),
        sa.Column("verdicts", sa.Integer(), nullable=False),
        sa.Column("wins", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("ties", sa.Integer(), nullable=False),
        sa.Column("both_bad", sa.Integer(), nullable=False),
        sa.Column("rankings", sa.Integer(), nullable=False),
        sa.Column("corrections", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("excluded", sa.Boolean(), nullable=False),
        sa.Column("words_key", ROW_ID, nullable=False),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("reply_id", name=op.f("uq_inbox_reply_id")),
    )
    op.create_index("ix_inbox_created_at_reply_id", "inbox", ["created_at", "reply_id"], unique=False)
    op.create_index(
        "ix_inbox_policy_version_created_at_reply_id",
        "inbox",
        ["policy_version", "created_at", "reply_id"],
        unique=False,
    )
    op.create_table(
        "inbox_news",
        sa.Column("news_id", ROW_ID, nullable=False),
        sa.Column("reply_id", NAME, nullable=True),
        sa.Column("comparison_id", NAME, nullable=True),
        sa.PrimaryKeyConstraint("news_id", name=op.f("pk_inbox_news")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "inbox_raters",
        sa.Column("rater_id", NAME, nullable=False),
        sa.Column("item_id", ROW_ID, nullable=False),
        sa.Column("said", WORD, nullable=True),
        sa.PrimaryKeyConstraint("rater_id", "item_id", name=op.f("pk_inbox_raters")),
    )
    op.create_index(op.f("ix_inbox_raters_item_id"), "inbox_raters", ["item_id"], unique=False)
    op.create_table(
        "saved_views",
        sa.Column("view_id", ROW_ID, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("view_id", name=op.f("pk_saved_views")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_saved_views_owner_name", "saved_views", ["owner", "name"], unique=True)
    op.create_table(
        "annotation_tasks",
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("queue", WORD, nullable=False),
        sa.Column("comparison_id", NAME, nullable=False),
        sa.Column("request_id", ROW_ID, nullable=True),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("gold", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "queue IN ('uncertain','disputed','random','candidates')", name=op.f("ck_annotation_tasks_queue")
        ),
        sa.CheckConstraint("overlap > 0", name=op.f("ck_annotation_tasks_overlap")),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.comparison_id"], name=op.f("fk_annotation_tasks_comparison_id")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["annotation_requests.request_id"], name=op.f("fk_annotation_tasks_request_id")
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_annotation_tasks")),
        sa.UniqueConstraint("comparison_id", name=op.f("uq_annotation_tasks_comparison_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_annotation_tasks_queue_priority_task_id"),
        "annotation_tasks",
        ["queue", "priority", "task_id"],
        unique=False,
    )
    op.create_table(
        "reply_reviews",
        sa.Column("reply_id", NAME, nullable=False),
        sa.Column("revision", ROW_ID, nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("excluded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reply_id"], ["replies.reply_id"], name=op.f("fk_reply_reviews_reply_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("reply_id", name=op.f("pk_reply_reviews")),
    )
    op.create_table(
        "annotation_labels",
        sa.Column("label_id", ROW_ID, nullable=False),
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("annotator", sa.Text(), nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("ranked", sa.JSON(), nullable=False),
        sa.Column("verdict", WORD, nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("feedback_id", ROW_ID, nullable=True),
        sa.Column("assigned_at", TIME, nullable=False),
        sa.Column("saved_at", TIME, nullable=False),
        sa.Column("done_at", TIME, nullable=True),
        sa.CheckConstraint("state IN ('open','done','skipped')", name=op.f("ck_annotation_labels_state")),
        sa.CheckConstraint(
            "verdict IS NULL OR verdict IN ('tie','both_bad')", name=op.f("ck_annotation_labels_verdict")
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"], ["feedback.feedback_id"], name=op.f("fk_annotation_labels_feedback_id")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["annotation_tasks.task_id"], name=op.f("fk_annotation_labels_task_id")),
        sa.PrimaryKeyConstraint("label_id", name=op.f("pk_annotation_labels")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_annotation_labels_annotator_state", "annotation_labels", ["annotator", "state"], unique=False)
    op.create_index(
        "ix_annotation_labels_open",
        "annotation_labels",
        ["saved_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "uq_annotation_labels_task_id_annotator", "annotation_labels", ["task_id", "annotator"], unique=True
    )
    op.create_table(
        "feedback_reviews",
        sa.Column("feedback_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("revision", ROW_ID, nullable=False),
        sa.Column("excluded", sa.Boolean(), nullable=False),
        sa.Column("approval", WORD, nullable=True),
        sa.CheckConstraint(
            "approval IS NULL OR approval IN ('approved','rejected')", name=op.f("ck_feedback_reviews_approval")
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"], ["feedback.feedback_id"], name=op.f("fk_feedback_reviews_feedback_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("feedback_id", name=op.f("pk_feedback_reviews")),
    )
    op.create_table(
        "review_acts",
        sa.Column("act_id", ROW_ID, nullable=False),
        sa.Column("batch_id", NAME, nullable=False),
        sa.Column("action", WORD, nullable=False),
        sa.Column("reply_id", NAME, nullable=False),
        sa.Column("feedback_id", ROW_ID, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("undoes", ROW_ID, nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("(undoes IS NOT NULL) = (action = 'undo')", name=op.f("ck_review_acts_undo_names_an_act")),
        sa.CheckConstraint(
            "action IN ('flag','unflag','exclude','restore','correct','approve','reject','note','undo')",
            name=op.f("ck_review_acts_action"),
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"], ["feedback.feedback_id"], name=op.f("fk_review_acts_feedback_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reply_id"], ["replies.reply_id"], name=op.f("fk_review_acts_reply_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["undoes"], ["review_acts.act_id"], name=op.f("fk_review_acts_undoes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("act_id", name=op.f("pk_review_acts")),
        sa.UniqueConstraint("undoes", name=op.f("uq_review_acts_undoes")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_review_acts_batch_id"), "review_acts", ["batch_id"], unique=False)
    op.create_index(op.f("ix_review_acts_reply_id_act_id"), "review_acts", ["reply_id", "act_id"], unique=False)
    op.create_index(op.f("ix_round_selection_feedback_id"), "round_selection", ["feedback_id"], unique=False)
    # Whatever was rated before stands in the inbox as well.
    op.execute("INSERT INTO inbox_news (reply_id) SELECT DISTINCT reply_id FROM feedback WHERE reply_id IS NOT NULL")
    op.execute(
        "INSERT INTO inbox_news (comparison_id)"
        " SELECT DISTINCT comparison_id FROM feedback WHERE comparison_id IS NOT NULL"
    )
