"""`evaluate.Metric` subclasses that work with no network."""

from .agreement import Agreement
from .answers import AnswerMetrics
from .probabilities import ProbabilityMetrics
from .quadratic_weighted_kappa import QuadraticWeightedKappa

__all__ = ["Agreement", "AnswerMetrics", "ProbabilityMetrics", "QuadraticWeightedKappa"]
