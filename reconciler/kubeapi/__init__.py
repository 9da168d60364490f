"""A Kubernetes API server, as far as a client of it needs to know: where it is, as whom, questions, streams, refusals.

Knows no kind of object and nothing of sandboxes or states: what a refusal means for those, its callers say.
"""
