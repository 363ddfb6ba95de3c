"""Speech that machines say, over a telephone's line, and what the speech processor understands of it."""
