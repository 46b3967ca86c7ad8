"""What `archiver demo` runs on: real pages, and a Postgres of its own."""
