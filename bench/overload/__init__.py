"""Ten times more than a model server bears: what gets through, how late, and what a refusal costs."""
