"""How the replies of a comparison came to be shown, where more were drawn than are shown."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("comparisons", sa.Column("drawing", sa.JSON()))
