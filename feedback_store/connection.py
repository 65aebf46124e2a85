"""The connection that every query takes first, under a name that other roles may import (they never see sqlalchemy)."""

from sqlalchemy import Connection

__all__ = ["Connection"]
