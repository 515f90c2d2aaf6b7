"""The store's tables brought up to date: by Alembic from the baseline on, by hand from before."""
