"""Review ensembles: comments of several reviewers on one change, merged and weighed, on recorded reviews.

The merge itself is `core.same`, the weighing without labels `core.detection`; both serve any review. Here is what
measures them: docs/reference/review-ensembles.md.
"""

from .reviews import Comment, Pull, load_reviews
from .run import Reviewed, run_reviews

__all__ = ["Comment", "Pull", "Reviewed", "load_reviews", "run_reviews"]
