"""PostgreSQL is the truth: the only package that speaks to it."""
