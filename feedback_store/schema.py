"""The tables, alike on SQLite and PostgreSQL. Changes go through `migrations/`; a test holds the two equal.

What keeps the truth true is in here and not in the queries: foreign keys, one open round (`open_slot`), one
idempotency key per rater, one pointer row, feedback ids that are never used twice. Feedback has no update and no
delete: what a rater thinks now is the latest event, found when it is read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

REVISION = "0007"
"""The newest revision in `migrations/versions`: a database already there starts without loading alembic."""


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time. SQLite has no time zones: there the time is stored as UTC and read back as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time of the store is {value!r}; wanted: an aware one, for example datetime.now(UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts rows only in a column declared INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")
Name = String(64)
# none_as_null: a missing value is SQL's NULL on both databases, never the JSON text "null".
Json = JSON(none_as_null=True)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

raters = Table(
    "raters",
    metadata,
    Column("rater_id", Name, primary_key=True),
    Column("channel", Name, nullable=False),
    Column("consent", Boolean),
    Column("consent_version", Integer),
    Column("quarantined", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", UtcTime, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("conversation_id", Name, primary_key=True),
    Column("channel", Name, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

policy_versions = Table(
    "policy_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("base_model", Text, nullable=False),
    Column("adapter_sha256", String(64)),
    Column("parent", Integer, ForeignKey("policy_versions.version")),
    Column("method", String(16)),
    Column("round_id", RowId, ForeignKey("rounds.round_id"), unique=True),
    Column("gate_report", Json),
    Column("metrics", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("state IN ('candidate','canary','live','retired','rejected')", name="state"),
    # The base model is version 1 and every other version is an adapter over it.
    CheckConstraint("(version = 1) = (adapter_sha256 IS NULL)", name="base_is_version_1"),
)

replies = Table(
    "replies",
    metadata,
    Column("reply_id", Name, primary_key=True),
    Column("policy_version", Integer, ForeignKey("policy_versions.version"), nullable=False),
    Column("adapter_sha256", String(64)),
    Column("channel", Name, nullable=False),
    Column("rater_id", Name, ForeignKey("raters.rater_id")),
    Column("conversation_id", Name, ForeignKey("conversations.conversation_id")),
    Column("messages", Json),
    Column("rendered_prompt", Text),
    Column("text", Text),
    Column("finish_reason", String(16), nullable=False),
    Column("sampling", Json, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("logprob_nats", Float),
    Column("latency_ms", Float, nullable=False),
    # No foreign key: the replies of a comparison are stored before it, and `add_comparison` checks them.
    Column("comparison_id", Name, index=True),
    Column("shown_position", Integer),
    Column("metadata", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False, index=True),
    CheckConstraint("finish_reason IN ('stop','length','cancelled')", name="finish_reason"),
    Index(None, "conversation_id", "created_at"),
    Index(None, "rater_id", "created_at"),
    # Holds all that the overview counts: the rows themselves are long, and texts stand before these columns.
    Index("ix_replies_figures", "created_at", "policy_version", "completion_tokens", "finish_reason", "latency_ms"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("comparison_id", Name, primary_key=True),
    Column("reply_ids", Json, nullable=False),
    Column("rater_id", Name, ForeignKey("raters.rater_id")),
    Column("conversation_id", Name, ForeignKey("conversations.conversation_id")),
    Column("channel", Name, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("drawing", Json),
)

feedback = Table(
    "feedback",
    metadata,
    Column("feedback_id", RowId, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("rater_id", Name, ForeignKey("raters.rater_id"), nullable=False),
    Column("channel", Name, nullable=False),
    Column("reply_id", Name, ForeignKey("replies.reply_id")),
    Column("comparison_id", Name, ForeignKey("comparisons.comparison_id")),
    Column("thumb", String(8)),
    Column("verdict", Name),
    Column("ranking", Json),
    Column("correction", Text),
    Column("reason", Text),
    Column("idempotency_key", String(255)),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint(
        "(kind IN ('thumb','correction') AND reply_id IS NOT NULL AND comparison_id IS NULL)"
        " OR (kind IN ('verdict','ranking') AND comparison_id IS NOT NULL AND reply_id IS NULL)",
        name="target",
    ),
    CheckConstraint("thumb IS NULL OR (kind = 'thumb' AND thumb IN ('up','down'))", name="thumb"),
    Index(
        "uq_feedback_rater_id_idempotency_key",
        "rater_id",
        "idempotency_key",
        unique=True,
        sqlite_where=text("idempotency_key IS NOT NULL"),
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    Index("ix_feedback_reply_id", "reply_id"),
    Index(
        "ix_feedback_comparison_id",
        "comparison_id",
        sqlite_where=text("comparison_id IS NOT NULL"),
        postgresql_where=text("comparison_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

rounds = Table(
    "rounds",
    metadata,
    Column("round_id", RowId, primary_key=True),
    Column("state", String(16), nullable=False),
    # 1 while the round is open, NULL when it has ended: the unique index lets only one be open.
    Column("open_slot", Integer, unique=True),
    Column("method", String(16)),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("lease_owner", Text),
    Column("lease_until", UtcTime),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("reference_version", Integer),
    Column("candidate_version", Integer),
    Column("settings", Json, nullable=False),
    Column("selection", Json, nullable=False),
    Column("gate_report", Json),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    CheckConstraint(
        "state IN ('requested','selecting','training','gating','published','rejected','failed','cancelled')",
        name="state",
    ),
    CheckConstraint("(open_slot IS NULL) = (state IN ('published','rejected','failed','cancelled'))", name="open_slot"),
    sqlite_autoincrement=True,
)

round_dues = Table(
    "round_dues",
    metadata,
    # The wall-clock time that the schedule names: whoever is first settles it, for every scheduler and restart.
    Column("due", Name, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("round_id", RowId, ForeignKey("rounds.round_id"), unique=True),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("state IN ('waiting','asked','skipped')", name="state"),
    CheckConstraint("(round_id IS NOT NULL) = (state = 'asked')", name="round"),
)

round_metrics = Table(
    "round_metrics",
    metadata,
    Column("round_id", RowId, ForeignKey("rounds.round_id"), primary_key=True),
    Column("name", Name, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("value", Float, nullable=False),
    Column("at", UtcTime, nullable=False),
)

round_selection = Table(
    "round_selection",
    metadata,
    Column("round_id", RowId, ForeignKey("rounds.round_id"), primary_key=True),
    Column("feedback_id", RowId, ForeignKey("feedback.feedback_id"), primary_key=True),
    Column("split", String(16), nullable=False),
    CheckConstraint("split IN ('train','held_out')", name="split"),
    # From an act to the rounds that learnt from it.
    Index(None, "feedback_id"),
)

live_pointer = Table(
    "live_pointer",
    metadata,
    Column("pointer_id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, ForeignKey("policy_versions.version"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("canary_version", Integer, ForeignKey("policy_versions.version")),
    Column("canary_share", Float),
    CheckConstraint("pointer_id = 1", name="one_row"),
    CheckConstraint("(canary_version IS NULL) = (canary_share IS NULL)", name="canary_has_a_share"),
    CheckConstraint("canary_share >= 0 AND canary_share < 1", name="canary_share"),
    CheckConstraint("canary_version <> version", name="canary_is_not_live"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", RowId, primary_key=True),
    Column("action", String(16), nullable=False),
    Column("version", Integer, ForeignKey("policy_versions.version"), nullable=False),
    Column("from_version", Integer, ForeignKey("policy_versions.version")),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("share", Float),
    Column("at", UtcTime, nullable=False),
    Column("evidence", Json),
    CheckConstraint("action IN ('bootstrap','promote','rollback','canary','canary_stop')", name="action"),
    CheckConstraint("(share IS NOT NULL) = (action = 'canary')", name="share"),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    Column("user_id", RowId, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    # NULL until the invitation is taken up, and for those who sign in elsewhere.
    Column("password_hash", Text),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("invitation_sha256", String(64), unique=True),
    Column("invitation_until", UtcTime),
    Column("revision", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("role IN ('user','annotator','operator','admin')", name="role"),
    sqlite_autoincrement=True,
)

identities = Table(
    "identities",
    metadata,
    Column("provider", String(16), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("user_id", RowId, ForeignKey("users.user_id"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    # What the browser holds is not in here: who reads the database cannot sign in with it.
    Column("session_sha256", String(64), primary_key=True),
    Column("user_id", RowId, ForeignKey("users.user_id"), nullable=False, index=True),
    Column("csrf_token", Name, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("name", Name, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("revoked_at", UtcTime),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", RowId, primary_key=True),
    Column("at", UtcTime, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", Name, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", Json, nullable=False),
    sqlite_autoincrement=True,
)


quarantines = Table(
    "quarantines",
    metadata,
    Column("quarantine_id", RowId, primary_key=True),
    Column("rater_id", Name, ForeignKey("raters.rater_id"), nullable=False, index=True),
    # Of one act alone; NULL: of everything the rater gave.
    Column("feedback_id", RowId, ForeignKey("feedback.feedback_id"), index=True),
    Column("signal", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("figures", Json, nullable=False),
    Column("begun_by", Text, nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("decision", String(16)),
    Column("decided_by", Text),
    Column("decided_at", UtcTime),
    CheckConstraint("signal IN ('flood','ring','phrase','by_hand')", name="signal"),
    CheckConstraint("decision IN ('released','kept')", name="decision"),
    CheckConstraint("(decision IS NULL) = (decided_at IS NULL)", name="decided"),
    sqlite_autoincrement=True,
)

side_by_side_votes = Table(
    "side_by_side_votes",
    metadata,
    Column("version", Integer, ForeignKey("policy_versions.version"), primary_key=True),
    Column("example", Integer, primary_key=True),
    Column("viewer", Name, primary_key=True),
    Column("choice", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("choice IN ('before','after','tie','both_bad')", name="choice"),
)

vetoes = Table(
    "vetoes",
    metadata,
    Column("version", Integer, ForeignKey("policy_versions.version"), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

erased_selections = Table(
    "erased_selections",
    metadata,
    Column("erasure_id", RowId, primary_key=True),
    Column("round_id", RowId, ForeignKey("rounds.round_id"), nullable=False, index=True),
    Column("acts", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

erasures = Table(
    "erasures",
    metadata,
    # Rises with every erasure: whoever holds a copy of texts (a round's folder) sees that it has to look again.
    Column("erasure_id", RowId, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("versions", Json, nullable=False),
    # When what was erased had been overwritten in the database's files too; NULL until then.
    Column("overwritten_at", UtcTime),
    sqlite_autoincrement=True,
)


def now() -> datetime:
    """The present time as every record of the store holds it."""
    return datetime.now(UTC)


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` less the missing ones."""
    return {name: value for name, value in values.items() if value is not None}
