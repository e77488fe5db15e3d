"""TLS is libpq's: who must prove what, and one line for each refusal."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cli.program import Program
from contract.builders import META, record, sha
from manifestlog import DownloadManifestManager, ServerError, maintenance
from support.certificates import Authority, Issued
from support.postgres import FAST, PASSWORD, Server, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HBA = """
local all all trust
hostssl all machine 127.0.0.1/32 cert
hostssl all postgres 127.0.0.1/32 trust
hostssl all reader 127.0.0.1/32 scram-sha-256
hostnossl all reader 127.0.0.1/32 reject
"""


class Encrypted(NamedTuple):
    """A server that accepts TLS only, and who has signed for it."""

    server: Server
    ours: Authority
    others: Authority
    machine: Issued
    """The certificate of the user `machine`."""

    def url(self, user: str = "postgres", **parameters: object) -> str:
        """The location of a manifest, over TCP."""
        given = {"sslmode": "verify-full", "sslrootcert": self.ours.ca} | parameters
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"{self.server.tcp_url('systems_download', user=user)}?{query}"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    ours, others = Authority.make(folder / "ours"), Authority.make(folder / "others")
    issued, machine = ours.issue("server"), ours.issue("machine")
    machine.key.chmod(0o600)
    with cluster({}, speaks_tls=True) as plain:
        own = {name: plain.folder / name for name in ("ca.pem", "server.pem", "server.key")}
        for path, there in zip((ours.ca, issued.cert, issued.key), own.values(), strict=True):
            shutil.copy(path, there)
            subprocess.run(["chown", "--reference", plain.folder, there], check=True)
        own["server.key"].chmod(0o600)
        files = {"ssl_ca_file": own["ca.pem"], "ssl_cert_file": own["server.pem"], "ssl_key_file": own["server.key"]}
        server = replace(plain, settings=FAST | {"ssl": "on"} | {name: os.fspath(path) for name, path in files.items()})
        (server.data / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        try:
            server.start()
            server.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'", "CREATE ROLE machine LOGIN SUPERUSER")
            yield Encrypted(server, ours, others, machine)
        finally:
            server.stop()


@pytest.fixture
def url(encrypted: Encrypted) -> str:
    with DownloadManifestManager(encrypted.server.url("systems_download"), META):
        return encrypted.url()


def refused(url: str) -> str:
    """What an opening says, in one line that has no secret."""
    with pytest.raises(ServerError) as found:
        DownloadManifestManager(url, META)
    text = str(found.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert text.endswith(("give sslmode, sslrootcert, sslcert and sslkey as the server demands them", "pg_hba.conf"))
    return text


def test_a_server_that_proves_who_it_is_is_accepted(url: str) -> None:
    with DownloadManifestManager(url) as manifest:
        manifest.add(record("a"))
        assert sha("a") in manifest


def test_doctor_says_that_it_has_proved_it(url: str) -> None:
    directory = url.replace("/systems_download", "")
    (found,) = (one for one in maintenance.diagnose(directory) if one.test == "encryption")
    assert (found.status, found.found) == ("ok", "TLS, and the server has proved who it is")


def test_the_certificate_of_another_authority_is_refused(encrypted: Encrypted) -> None:
    assert "certificate verify failed" in refused(encrypted.url(sslrootcert=encrypted.others.ca))


def test_the_certificate_of_another_host_is_refused(encrypted: Encrypted) -> None:
    url = encrypted.url(hostaddr="127.0.0.1").replace("@127.0.0.1", "@db.example.org")
    assert "does not match host name" in refused(url)


def test_an_authority_that_is_not_there_is_named(encrypted: Encrypted, tmp_path: Path) -> None:
    assert f'root certificate file "{tmp_path}/none.pem" does not exist' in refused(
        encrypted.url(sslrootcert=tmp_path / "none.pem")
    )


def test_who_does_not_encrypt_is_told_to(encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert "no encryption: give sslmode" in refused(encrypted.url("reader", sslmode="disable"))


def test_who_encrypts_and_may_not_connect_is_not_told_to_encrypt(encrypted: Encrypted) -> None:
    encrypted.server.execute("CREATE ROLE stranger LOGIN")
    assert "SSL encryption: ask for an entry" in refused(encrypted.url("stranger"))


@pytest.mark.usefixtures("url")
def test_a_client_may_prove_who_it_is_by_a_certificate(encrypted: Encrypted) -> None:
    machine = encrypted.machine
    with DownloadManifestManager(encrypted.url("machine", sslcert=machine.cert, sslkey=machine.key)) as manifest:
        assert manifest.metadata.process == "extractor"


def test_a_client_without_the_certificate_that_is_demanded_is_refused(encrypted: Encrypted) -> None:
    assert "valid client certificate" in refused(encrypted.url("machine", sslcert="/none", sslkey="/none"))


def test_on_the_command_line_a_refusal_is_one_line(encrypted: Encrypted, tmp_path: Path) -> None:
    found = Program(tmp_path).here("list", encrypted.url(sslrootcert=encrypted.others.ca))
    assert (found.code, found.out, found.err.count("\n")) == (1, "", 1)
