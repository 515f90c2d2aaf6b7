"""Commands on what is kept: the audit, records, and versions that nobody needs."""
