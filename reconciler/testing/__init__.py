"""Conformance suites for backends and stores, for this project and for third parties. Needs pytest."""
