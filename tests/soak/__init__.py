"""A long run under a steady load, to see whether anything grows that should not."""
