"""`evaluate.Metric` subclasses that work with no network."""

from .agreement import Agreement
from .answers import AnswerMetrics
from .probabilities import ProbabilityMetrics
from .quadratic_weighted_kappa import QuadraticWeightedKappa
from .ranking import RankingMetrics
from .replies import ReplyMetrics

__all__ = ["Agreement", "AnswerMetrics", "ProbabilityMetrics", "QuadraticWeightedKappa", "RankingMetrics", "ReplyMetrics"]
