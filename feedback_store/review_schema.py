"""The tables of operators and annotators, beside `schema.py`: the inbox, review acts, saved views, annotation.

`inbox`, `inbox_raters` and the words (`inbox_words`, see `inbox_news.py`) are a projection: what a list of replies
needs to be filtered and counted in one narrow pass, kept up by `inbox.catch_up`. They hold nothing that is not
elsewhere, so they have no foreign keys, and may be emptied and built anew.

What operators did is truth: `review_acts` only grows, and the state of a reply or of an act of feedback names the last
review act on it (`revision`), which the next one must have seen.
"""

from sqlalchemy import Boolean, CheckConstraint, Column, Float, ForeignKey, Index, Integer, String, Table, Text, text

from feedback_store.schema import Json, Name, RowId, UtcTime, metadata

inbox = Table(
    "inbox",
    metadata,
    Column("item_id", RowId, primary_key=True),
    Column("reply_id", Name, nullable=False, unique=True),
    Column("policy_version", Integer, nullable=False),
    Column("channel", Name, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("last_at", UtcTime, nullable=False),
    Column("raters", Integer, nullable=False),
    Column("ups", Integer, nullable=False),
    Column("downs", Integer, nullable=False),
    Column("verdicts", Integer, nullable=False),
    Column("wins", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("ties", Integer, nullable=False),
    Column("both_bad", Integer, nullable=False),
    Column("rankings", Integer, nullable=False),
    Column("corrections", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("disputed", Boolean, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("excluded", Boolean, nullable=False),
    # A checksum of the words that are indexed: most votes change none, and indexing costs more than all the rest.
    Column("words_key", RowId, nullable=False),
    Index("ix_inbox_created_at_reply_id", "created_at", "reply_id"),
    Index("ix_inbox_policy_version_created_at_reply_id", "policy_version", "created_at", "reply_id"),
)

inbox_raters = Table(
    "inbox_raters",
    metadata,
    Column("rater_id", Name, primary_key=True),
    Column("item_id", RowId, primary_key=True),
    Column("said", String(16)),
    Index(None, "item_id"),
)

# What the projection has yet to look at: written by triggers beside every change, taken out by `catch_up`. One row
# names a reply or a comparison. (A number to remember instead would miss what PostgreSQL commits out of order.)
inbox_news = Table(
    "inbox_news",
    metadata,
    Column("news_id", RowId, primary_key=True),
    Column("reply_id", Name),
    Column("comparison_id", Name),
    sqlite_autoincrement=True,
)

review_acts = Table(
    "review_acts",
    metadata,
    Column("act_id", RowId, primary_key=True),
    Column("batch_id", Name, nullable=False),
    Column("action", String(16), nullable=False),
    Column("reply_id", Name, ForeignKey("replies.reply_id", ondelete="CASCADE"), nullable=False),
    Column("feedback_id", RowId, ForeignKey("feedback.feedback_id", ondelete="CASCADE")),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("text", Text),
    Column("before", Json, nullable=False),
    Column("after", Json, nullable=False),
    Column("undoes", RowId, ForeignKey("review_acts.act_id", ondelete="CASCADE"), unique=True),
    Column("at", UtcTime, nullable=False),
    CheckConstraint(
        "action IN ('flag','unflag','exclude','restore','correct','approve','reject','note','undo')", name="action"
    ),
    CheckConstraint("(undoes IS NOT NULL) = (action = 'undo')", name="undo_names_an_act"),
    Index(None, "reply_id", "act_id"),
    Index(None, "batch_id"),
    sqlite_autoincrement=True,
)

reply_reviews = Table(
    "reply_reviews",
    metadata,
    Column("reply_id", Name, ForeignKey("replies.reply_id", ondelete="CASCADE"), primary_key=True),
    Column("revision", RowId, nullable=False),
    Column("flagged", Boolean, nullable=False),
    Column("excluded", Boolean, nullable=False),
)

feedback_reviews = Table(
    "feedback_reviews",
    metadata,
    Column(
        "feedback_id",
        RowId,
        ForeignKey("feedback.feedback_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("revision", RowId, nullable=False),
    Column("excluded", Boolean, nullable=False),
    Column("approval", String(16)),
    CheckConstraint("approval IS NULL OR approval IN ('approved','rejected')", name="approval"),
)

saved_views = Table(
    "saved_views",
    metadata,
    Column("view_id", RowId, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("uq_saved_views_owner_name", "owner", "name", unique=True),
    sqlite_autoincrement=True,
)

annotation_requests = Table(
    "annotation_requests",
    metadata,
    Column("request_id", RowId, primary_key=True),
    Column("queue", String(16), nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("queue IN ('uncertain','disputed','random','candidates')", name="queue"),
    CheckConstraint("wanted > 0", name="wanted"),
    sqlite_autoincrement=True,
)

annotation_tasks = Table(
    "annotation_tasks",
    metadata,
    Column("task_id", RowId, primary_key=True),
    Column("queue", String(16), nullable=False),
    Column("comparison_id", Name, ForeignKey("comparisons.comparison_id"), nullable=False, unique=True),
    Column("request_id", RowId, ForeignKey("annotation_requests.request_id")),
    Column("priority", Float, nullable=False),
    Column("overlap", Integer, nullable=False),
    # The right answer, as an order of reply ids from best to worst: a gold item measures annotators and never trains.
    Column("gold", Json),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("queue IN ('uncertain','disputed','random','candidates')", name="queue"),
    CheckConstraint("overlap > 0", name="overlap"),
    Index(None, "queue", "priority", "task_id"),
    sqlite_autoincrement=True,
)

annotation_labels = Table(
    "annotation_labels",
    metadata,
    Column("label_id", RowId, primary_key=True),
    Column("task_id", RowId, ForeignKey("annotation_tasks.task_id"), nullable=False),
    Column("annotator", Text, nullable=False),
    Column("state", String(16), nullable=False),
    # The order in which this annotator was shown the replies: drawn once, and the same on every device.
    Column("shown", Json, nullable=False),
    Column("ranked", Json, nullable=False),
    Column("verdict", String(16)),
    Column("reasons", Json, nullable=False),
    Column("note", Text, nullable=False),
    # Rises with every save: a second device that did not see the last one is told so.
    Column("revision", Integer, nullable=False),
    Column("feedback_id", RowId, ForeignKey("feedback.feedback_id")),
    Column("assigned_at", UtcTime, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    CheckConstraint("state IN ('open','done','skipped')", name="state"),
    CheckConstraint("verdict IS NULL OR verdict IN ('tie','both_bad')", name="verdict"),
    Index("uq_annotation_labels_task_id_annotator", "task_id", "annotator", unique=True),
    Index("ix_annotation_labels_annotator_state", "annotator", "state"),
    Index(
        "ix_annotation_labels_open",
        "saved_at",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    sqlite_autoincrement=True,
)
