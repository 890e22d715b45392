"""The only code that talks to Postgres: the embedded server, migrations, atomic publishing, read-only queries."""
