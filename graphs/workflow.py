"""For LangGraph's tools: the whole way, debate to commit; `{"request": {"task": "…", "models": ["…"]}}` starts it."""

from madflow.workflow import build_workflow

graph = build_workflow()
