"""What exists is said once: the names that commands offer are those that there is code for."""

from models.data import catalogue
from models.data.records import FORMATS
from models.training.augment import AUGMENTATIONS as AUGMENTING
from models.training.methods import METHODS as TRAINING
from models.training.recipe import AUGMENTATIONS, METHODS


def test_every_format_that_is_offered_has_a_record_and_no_other_has() -> None:
    assert {"auto", "bundled", *catalogue.CATALOGUE} == set(FORMATS)


def test_every_method_and_augmentation_of_a_recipe_is_one_function() -> None:
    assert set(TRAINING) == set(METHODS)
    assert set(AUGMENTING) == set(AUGMENTATIONS)
