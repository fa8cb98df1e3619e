"""Who may use a configured fleet, and with which files."""

from __future__ import annotations

import pytest
from tests.support.kubernetes_bodies import spec, voice_body

from segue.errors import InvalidVoiceModel
from segue.model import VoiceModel
from segue_operator.config import ClusterFleet
from segue_operator.kubernetes.fleets import Fleets


def fleets(**more: object) -> Fleets:
    gold = {"namespace": "fleets", "podSelector": {"app": "tts"}, "allowedNamespaces": ["team-a"], **more}
    return Fleets({"gold": ClusterFleet.model_validate(gold)})


def voice(namespace: str, *, fleet: str = "gold", uri: str = "s3://voices/team-a/1.bin") -> VoiceModel:
    body = spec("a", fleet=fleet)
    body["weights"]["timbre"]["uri"] = uri
    return VoiceModel.parse(voice_body(namespace=namespace, spec_=body))


@pytest.mark.parametrize("namespace", ["fleets", "team-a"])
def test_namespaces_that_are_named_may_use_it(namespace: str) -> None:
    fleets().require_allowed(voice(namespace))
    assert str(fleets().of_voice(voice(namespace))) == "fleets/gold"


def test_others_may_not() -> None:
    with pytest.raises(InvalidVoiceModel, match="serves no voices of namespace team-b"):
        fleets().require_allowed(voice("team-b"))
    assert fleets().of_voice(voice("team-b")) is None


def test_everybody_may_where_that_is_said() -> None:
    fleets(allowedNamespaces=["*"]).require_allowed(voice("team-b"))


def test_a_fleet_that_is_not_configured_is_the_namespaces_own() -> None:
    fleets().require_allowed(voice("team-b", fleet="silver", uri="https://anywhere/1.bin"))
    assert str(fleets().of_voice(voice("team-b", fleet="silver"))) == "team-b/silver"


SOURCES = [
    {"namespaces": ["team-a"], "uriPrefixes": ["s3://voices/team-a", "s3://voices/ref.wav"]},
    {"uriPrefixes": ["s3://shared/", "s3://voices/ref.wav"]},
]


@pytest.mark.parametrize("uri", ["s3://voices/team-a/1.bin", "s3://shared/1.bin"])
def test_files_under_the_prefixes_of_the_namespace_are_read(uri: str) -> None:
    fleets(sources=SOURCES).require_allowed(voice("team-a", uri=uri))


@pytest.mark.parametrize(
    ("namespace", "uri"),
    [
        ("team-a", "s3://voices/team-b/1.bin"),
        ("team-a", "s3://voices/team-ab/1.bin"),
        ("team-a", "s3://voices/team-a/../team-b/1.bin"),
        ("team-a", "s3://voices/team-a/%2e%2e/team-b/1.bin"),
        ("fleets", "s3://voices/team-a/1.bin"),
    ],
)
def test_others_are_refused_by_name(namespace: str, uri: str) -> None:
    with pytest.raises(InvalidVoiceModel) as error:
        fleets(sources=SOURCES).require_allowed(voice(namespace, uri=uri))
    assert error.value.field == "spec.weights.timbre.uri"
    assert uri in error.value.message
