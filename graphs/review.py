"""`madflow review` for LangGraph's own tools; madflow/review/entry.py says what a request looks like."""

from madflow.review.entry import build_review_graph

graph = build_review_graph()
