"""What a version is and how well it does: the HTML report and the model card."""

from models.report.model_card import card
from models.report.page import render

__all__ = ["card", "render"]
