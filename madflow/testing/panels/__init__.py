"""Simulated panels: agents with set competence, conformity and bad faith, whose debates have a known right answer.

- model.py: what a panel is, in numbers, and the formulas behind them.
- simulate.py: its debates, whole; client.py: the same seats as a `ModelClient`, for the real debate graph.
- fitting.py: the panel behind recorded debates; calibration.py: how near it comes to others.
- explore.py: what policies make of panels, by size, topology and share of bad agents.

Everything is seeded and takes no time but the processor's.
"""
