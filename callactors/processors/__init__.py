"""The AI step: what a processor is given and answers, and the processors that come along."""
