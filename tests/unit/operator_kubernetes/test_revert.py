"""The patch that writes an earlier version back."""

from __future__ import annotations

import copy
import json

import jsonpatch
from tests.support.kubernetes_bodies import LAST_APPLIED, Body, applied, source, spec, voice_body

from segue_operator.kubernetes.revert import revert_patch


def reverted(body: Body, good: Body) -> Body:
    """The object after the patch, by a JSON patch implementation that is not ours."""
    return dict(jsonpatch.apply_patch(copy.deepcopy(body), revert_patch(body, source(good))))


def test_it_holds_only_for_the_object_that_was_read() -> None:
    tests = [each for each in revert_patch(voice_body(version=7), source(spec("a"))) if each["op"] == "test"]
    assert tests == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
    ]


def test_what_the_bad_version_added_goes_away() -> None:
    bad = spec("b", options={"speed": 1.2}, rollout={"paused": True})
    bad["weights"]["style"] = {"uri": "s3://voices/style.bin", "sha256": "c" * 64}
    after = reverted(voice_body(spec_=bad), spec("a"))
    assert after["spec"] == spec("a", rollout={"paused": True})


def test_what_the_bad_version_removed_comes_back() -> None:
    good, bad = spec("a", options={"speed": 0.9}), spec("b")
    del bad["reference"]
    assert reverted(voice_body(spec_=bad), good)["spec"] == good


def test_kubectl_believes_that_it_applied_the_good_version() -> None:
    body = applied(voice_body(spec_=spec("b", options={"speed": 1.2}), annotations={"segue.dev/retry": "1"}))
    after = reverted(body, spec("a"))
    annotations = after["metadata"]["annotations"]
    assert json.loads(annotations[LAST_APPLIED])["spec"] == spec("a")
    assert annotations["segue.dev/retry"] == "1"


def test_the_annotation_is_written_as_kubectl_writes_it() -> None:
    good = spec("a")
    good["reference"]["text"] = "<b>\u00fc & \u2028</b>"
    text = reverted(applied(voice_body(spec_=spec("b"))), good)["metadata"]["annotations"][LAST_APPLIED]
    assert text.endswith("}\n")
    assert "\\u003cb\\u003e\u00fc \\u0026 \\u2028\\u003c/b\\u003e" in text
    assert text.index('"apiVersion"') < text.index('"kind"') < text.index('"metadata"') < text.index('"spec"')


def test_no_annotation_is_made_where_kubectl_applied_nothing() -> None:
    assert "annotations" not in reverted(voice_body(spec_=spec("b")), spec("a"))["metadata"]


def test_an_annotation_that_cannot_be_read_is_left_alone() -> None:
    body = voice_body(spec_=spec("b"), annotations={LAST_APPLIED: "{"})
    after = reverted(body, spec("a"))
    assert after["metadata"]["annotations"] == {LAST_APPLIED: "{"}
    assert after["spec"] == spec("a")
