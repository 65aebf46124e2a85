"""The canary: which version answers a share of the conversations beside the live one, and who said so."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

POINTER = sa.Table(
    "live_pointer",
    sa.MetaData(),
    sa.Column("pointer_id", sa.Integer(), autoincrement=False, nullable=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.CheckConstraint("pointer_id = 1", name="ck_live_pointer_one_row"),
    sa.ForeignKeyConstraint(["version"], ["policy_versions.version"], name="fk_live_pointer_version"),
    sa.PrimaryKeyConstraint("pointer_id", name="pk_live_pointer"),
)
DEPLOYMENTS = sa.Table(
    "deployments",
    sa.MetaData(),
    sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("from_version", sa.Integer()),
    sa.Column("actor", sa.Text(), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("forced", sa.Boolean(), nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("action IN ('bootstrap','promote','rollback')", name="ck_deployments_action"),
    sa.ForeignKeyConstraint(["from_version"], ["policy_versions.version"], name="fk_deployments_from_version"),
    sa.ForeignKeyConstraint(["version"], ["policy_versions.version"], name="fk_deployments_version"),
    sa.PrimaryKeyConstraint("deployment_id", name="pk_deployments"),
    sqlite_autoincrement=True,
)
"""The two tables as revision 0001 left them: SQLite copies a table to change it, and does not tell its checks."""


def upgrade() -> None:
    with op.batch_alter_table("live_pointer", copy_from=POINTER) as pointer:
        pointer.add_column(sa.Column("canary_version", sa.Integer()))
        pointer.add_column(sa.Column("canary_share", sa.Float()))
        pointer.create_foreign_key(
            op.f("fk_live_pointer_canary_version"), "policy_versions", ["canary_version"], ["version"]
        )
        pointer.create_check_constraint(
            op.f("ck_live_pointer_canary_has_a_share"), "(canary_version IS NULL) = (canary_share IS NULL)"
        )
        pointer.create_check_constraint(op.f("ck_live_pointer_canary_share"), "canary_share >= 0 AND canary_share < 1")
        pointer.create_check_constraint(op.f("ck_live_pointer_canary_is_not_live"), "canary_version <> version")
    with op.batch_alter_table("deployments", copy_from=DEPLOYMENTS) as deployments:
        deployments.add_column(sa.Column("share", sa.Float()))
        deployments.drop_constraint(op.f("ck_deployments_action"), type_="check")
        deployments.create_check_constraint(
            op.f("ck_deployments_action"),
            "action IN ('bootstrap','promote','rollback','canary','canary_stop')",
        )
        deployments.create_check_constraint(op.f("ck_deployments_share"), "(share IS NOT NULL) = (action = 'canary')")
