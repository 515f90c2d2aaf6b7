"""The steps between two revisions of the tables, one file each; Alembic reads them."""
