"""The passes: one pass or one family a file. They import the core, never the frontend or the backend."""
