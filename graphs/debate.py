"""`madflow debate` for LangGraph's own tools; madflow/debate/entry.py says what a request looks like."""

from madflow.debate.entry import build_graph

graph = build_graph()
