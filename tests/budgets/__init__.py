"""Budgets: what a command may cost, in things that can be counted. A busy machine takes longer; it does not count further."""
