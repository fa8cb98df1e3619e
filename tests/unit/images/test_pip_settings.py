"""What a build is lent of the machine's way to its packages."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

from tools.images.pip_settings import CERTIFICATES, WHEELS, PipSettings, settings_from


def read(settings: PipSettings) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.read_string(settings.text)
    return dict(parser["global"])


def test_the_environment_goes_before_install_and_install_before_global() -> None:
    listing = "install.index-url='https://b'\n:env:.index-url='https://c'\nglobal.index-url='https://a'\n"
    assert read(settings_from(listing, {})) == {"index-url": "https://c"}
    assert read(settings_from(listing.replace(":env:", "freeze"), {})) == {"index-url": "https://b"}


def test_what_is_not_about_reaching_an_index_stays_here() -> None:
    listing = "global.user='true'\n:env:.target='/somewhere'\n:env:.require-virtualenv='1'\nglobal.timeout='180'\n"
    assert read(settings_from(listing, {})) == {"timeout": "180"}


def test_several_indexes_survive_the_way_into_a_file() -> None:
    listing = r"global.extra-index-url='https://a\nhttps://b'"
    assert read(settings_from(listing, {}))["extra-index-url"].split() == ["https://a", "https://b"]


def test_certificates_are_lent_under_a_name_of_the_builds(tmp_path: Path) -> None:
    ours = tmp_path / "ca.pem"
    ours.touch()
    settings = settings_from(f":env:.cert='{ours}'", {"SSL_CERT_FILE": "/other"})
    assert (settings.certificates, read(settings)["cert"]) == (ours, CERTIFICATES)


def test_certificates_of_the_machine_are_lent_where_pip_names_none(tmp_path: Path) -> None:
    ours = tmp_path / "ca.pem"
    ours.touch()
    assert settings_from("", {"SSL_CERT_FILE": str(ours)}).certificates == ours
    assert settings_from("", {"SSL_CERT_FILE": str(tmp_path / "gone.pem")}) == PipSettings(text="[global]\n")


def test_a_folder_of_wheels_is_lent_and_a_page_of_links_is_not(tmp_path: Path) -> None:
    settings = settings_from(f":env:.find-links='https://links.example.com {tmp_path}'", {})
    assert (settings.wheels, read(settings)["find-links"]) == (tmp_path, WHEELS)
    assert settings_from(":env:.find-links='https://links.example.com'", {}).wheels is None
