"""Ready combinations of stopping, pooling and weighting: how much of a debate to hold, and what it came to.

A policy (policy.py) sees answers, stated confidences, texts and seats, as they come, and says whom else to ask and
what the answer is. Its parts are on pages of their own: when enough seats were asked (sampling.py), what votes of
several rounds come to (pooling.py), how reliable a seat is without any label (reliability.py), which outcomes to
distrust (suspicion.py), and from which score on (conformal.py). replay.py holds a policy against debates that are over.

Everything is pure and the same for every order of seats, debates and rounds' replies. Counts are exact; shares and
probabilities are floats, each sum rounded once.
"""

from .conformal import abstaining, abstention_threshold, conformal_threshold
from .debated import Debated, Said, leaders, tally
from .policy import POLICIES, Ask, Policy, Verdict, policy_named
from .pooling import Pool, Weighing, followers, shares, trust
from .reliability import Question, Reliabilities, learn_disputed, learn_reliabilities, log_odds, posterior
from .replay import Replayed, learn_run, replay
from .sampling import beta_lead, overturn, vote_value
from .suspicion import suspicions
from .urn import Urn, learn_urn, urn_gain

__all__ = [
    "POLICIES",
    "Ask",
    "Debated",
    "Policy",
    "Pool",
    "Question",
    "Reliabilities",
    "Replayed",
    "Said",
    "Urn",
    "Verdict",
    "Weighing",
    "abstaining",
    "abstention_threshold",
    "beta_lead",
    "conformal_threshold",
    "followers",
    "leaders",
    "learn_disputed",
    "learn_reliabilities",
    "learn_run",
    "learn_urn",
    "log_odds",
    "overturn",
    "policy_named",
    "posterior",
    "replay",
    "shares",
    "suspicions",
    "tally",
    "trust",
    "urn_gain",
    "vote_value",
]
