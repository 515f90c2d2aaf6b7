"""What a version is and how well it does: the HTML report and the model card."""

from models.reporting.model_card import card
from models.reporting.page import render

__all__ = ["card", "render"]
