"""What is kept, by its settings; all that is wrong is said at once."""

import pytest

from monitoring.records.keeping.limits import ModelLimits, Sample
from service.configuration.settings import load
from service.web.errors import ManySettingsError


def test_the_settings_make_one_record_of_what_is_kept() -> None:
    settings = load(
        {
            "HOLDFAST_RECORD_LIMITS": "digits:rows=10,days=2; wine:bytes=5",
            "HOLDFAST_RECORD_SAMPLE": "reservoir:5000",
            "HOLDFAST_KEEP_INPUTS": "off",
            "HOLDFAST_JOB_DAYS_KEPT": "30",
        }
    )
    kept = settings.kept
    assert kept.models == {
        "digits": ModelLimits(rows=10, days=2.0),
        "wine": ModelLimits(bytes=5),
    }
    assert (kept.sample, kept.inputs, kept.job_days) == (Sample("reservoir", 5000.0), False, 30.0)
    assert kept.rows == settings.record_rows_kept


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = {"HOLDFAST_RECORD_LIMITS": "digits", "HOLDFAST_RECORD_SAMPLE": "some"}
    with pytest.raises(ManySettingsError) as caught:
        load(wrong)
    assert {fault.name for fault in caught.value.faults} == {"record_limits", "record_sample"}
