from __future__ import annotations

from typing import Any

import pytest

from operations.rerender import CurrentUpload, RerenderOptions, reason_for

UPLOAD = CurrentUpload("a.jpg", "v2", "v2", 1000)
READY = {"version_source": "v2", "rendition_set": "new", "state": "READY"}
FAULT = {"version_source": "v2", "rendition_set": "new", "error_code": "DamagedImage"}


@pytest.mark.parametrize(
    ("record", "options", "reason"),
    [
        (READY, {}, ""),
        (READY | {"rendition_set": "old"}, {}, "another rendition set"),
        (READY | {"version_source": "v1"}, {}, "no record"),
        ({"state": "DELETED"}, {}, "no record"),
        ({}, {}, "no record"),
        ({"latest_fault": FAULT}, {}, ""),
        ({"latest_fault": FAULT | {"rendition_set": "old"}}, {}, "no record"),
        ({"latest_fault": FAULT | {"version_source": "v1"}}, {}, "no record"),
        ({"latest_fault": FAULT}, {"code": "DamagedImage"}, "failed before: DamagedImage"),
        ({"latest_fault": FAULT}, {"code": "NotAnImage"}, ""),
        (READY | {"rendition_set": "old"}, {"code": "DamagedImage"}, ""),
    ],
)
def test_an_upload_is_rendered_again_for_a_reason(record: dict[str, Any], options: Any, reason: str) -> None:
    assert reason_for(UPLOAD, record, "new", RerenderOptions(**options)) == reason


@pytest.mark.parametrize(
    ("record", "any_name", "reason"),
    [({}, False, ""), ({}, True, "no record"), (READY | {"rendition_set": "old"}, False, "another rendition set")],
)
def test_a_name_without_an_image_suffix_must_have_a_record_or_be_asked_for(
    record: dict[str, Any], any_name: bool, reason: str
) -> None:
    upload = CurrentUpload("notes", "v2", "v2", 1000)
    assert reason_for(upload, record, "new", RerenderOptions(any_name=any_name)) == reason
