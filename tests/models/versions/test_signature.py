"""Laws of signatures: what a trusted key signed is opened, and nothing else is."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models.versions
from models.base.errors import BundleError, HoldfastError
from models.base.files import sha256_bytes
from models.versions.bundle import MANIFEST, MODEL, open_bundle
from models.versions.registry import Registry
from models.versions.signature import SIGNATURE, KeyFileError, Keys
from tests.models.versions.test_bundle import forge
from tests.models.versions.test_registry import WHY, publish, snapshot

pytest.importorskip("cryptography")


def made(folder: Path, name: str, kind: str = "ed25519") -> tuple[Path, Path]:
    """A private and a public key, as openssl makes them."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", kind, "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    private, public = made(tmp_path_factory.mktemp("ours"), "ours")
    return Keys(trusted=str(public), signing=str(private))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    private, public = made(tmp_path_factory.mktemp("theirs"), "theirs")
    return Keys(trusted=str(public), signing=str(private))


def test_what_is_published_with_a_key_opens_for_who_trusts_it(tmp_path: Path, ours: Keys) -> None:
    publish(Registry(tmp_path, ours))
    serving = Registry(tmp_path, Keys(trusted=ours.trusted))
    assert serving.open("tiny", "1").manifest.version == 1
    assert serving.manifest("tiny", 1).model == "tiny"
    serving.promote("tiny", 1, expected=None, **WHY)
    Registry(tmp_path).open("tiny", "1")  # who trusts no keys asks for no signature


def test_unsigned_and_foreign_versions_are_neither_opened_nor_promoted(
    tmp_path: Path, ours: Keys, theirs: Keys
) -> None:
    publish(Registry(tmp_path))
    publish(Registry(tmp_path, Keys(signing=theirs.signing)))
    serving = Registry(tmp_path, Keys(trusted=ours.trusted))
    for version, why in ((1, "not signed; `holdfast models sign`"), (2, "by a trusted key")):
        for refused in (
            lambda v=version: serving.open("tiny", str(v)),
            lambda v=version: serving.manifest("tiny", v),
            lambda v=version: serving.promote("tiny", v, expected=None, **WHY),
        ):
            with pytest.raises(BundleError, match=why):
                refused()
    assert serving.aliases("tiny").champion is None


def test_a_rollback_to_a_version_without_signature_is_refused(tmp_path: Path, ours: Keys) -> None:
    plain = Registry(tmp_path)
    for version in (1, 2):
        publish(plain)
        plain.promote("tiny", version, expected=version - 1 or None, **WHY)
    with pytest.raises(BundleError, match="not signed"):
        Registry(tmp_path, ours).rollback("tiny", **WHY)


def test_several_keys_may_be_trusted(tmp_path: Path, ours: Keys, theirs: Keys) -> None:
    both = tmp_path / "trusted.pem"
    texts = [Path(keys.trusted).read_text() for keys in (theirs, ours)]
    both.write_text("of the old host\n" + "of the new host\n".join(texts))
    for keys in (ours, theirs):
        publish(Registry(tmp_path / "registry", Keys(signing=keys.signing)))
    serving = Registry(tmp_path / "registry", Keys(trusted=str(both)))
    assert [serving.open("tiny", v).manifest.version for v in "12"] == [1, 2]


def test_a_signature_is_of_one_model_and_one_version(tmp_path: Path, ours: Keys) -> None:
    registry = Registry(tmp_path, ours)
    publish(registry), publish(registry), publish(registry, model="other")
    shutil.rmtree(tmp_path / "tiny" / "2")
    for source in ("tiny/1", "other/1"):
        shutil.copytree(tmp_path / source, tmp_path / "tiny" / "2")
        with pytest.raises(BundleError, match=f"it was signed as {source}"):
            registry.open("tiny", "2")
        shutil.rmtree(tmp_path / "tiny" / "2")


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.data())
def test_who_writes_to_the_registry_without_the_key_changes_nothing_that_is_served(
    tmp_path: Path, ours: Keys, data: st.DataObject
) -> None:
    folder = tmp_path / "tiny" / "1"
    if not folder.exists():
        publish(Registry(tmp_path, ours))
    whole = snapshot(folder)
    name = data.draw(st.sampled_from(sorted({*whole} - {f"{MANIFEST}.sha256"})))
    changed = bytearray(whole[name])
    end = len(changed) - 1 if name != SIGNATURE else 80  # the rest of base64 has idle bits
    changed[data.draw(st.integers(0, end))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(changed)
    manifest = msgspec.json.decode(whole[MANIFEST])
    if name in manifest["files"]:  # a forger puts the digests right
        manifest["files"][name] = sha256_bytes(bytes(changed))
        forge(folder, msgspec.json.encode(manifest))
    elif name == MANIFEST:
        forge(folder, bytes(changed))
    with pytest.raises(BundleError):
        open_bundle(folder, ours)
    for each, content in whole.items():
        (folder / each).write_bytes(content)
    open_bundle(folder, ours)


def test_a_version_may_be_signed_later(tmp_path: Path, ours: Keys) -> None:
    publish(Registry(tmp_path))
    folder = tmp_path / "tiny" / "1"
    before = snapshot(folder)
    ours.sign(folder, (folder / MANIFEST).read_bytes())
    open_bundle(folder, ours)
    assert {k: v for k, v in snapshot(folder).items() if k != SIGNATURE} == before


@pytest.mark.parametrize("content", [b"", b"?", b"AAAA\n", b"A" * 88])
def test_a_damaged_signature_is_told(tmp_path: Path, ours: Keys, content: bytes) -> None:
    publish(Registry(tmp_path, ours))
    (tmp_path / "tiny" / "1" / SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged|not signed by a trusted key"):
        Registry(tmp_path, ours).open("tiny", "1")


@pytest.mark.parametrize("kind", ["absent", "text", "x25519", "swapped", "encrypted"])
def test_key_files_that_do_not_do_are_told_and_never_shown(
    tmp_path: Path, ours: Keys, kind: str
) -> None:
    publish(Registry(tmp_path, ours))
    private, public = tmp_path / "private", tmp_path / "public"
    if kind == "text":
        private.write_text("sesame"), public.write_text("sesame")
    elif kind == "x25519":
        private, public = made(tmp_path, "other", kind)
    elif kind == "swapped":
        private, public = Path(ours.trusted), Path(ours.signing)
    elif kind == "encrypted":
        command = ["openssl", "pkey", "-in", ours.signing, "-aes256", "-passout", "pass:sesame"]
        subprocess.run([*command, "-out", private], check=True)
        public = private
    wrong = Keys(trusted=str(public), signing=str(private))
    opened = lambda: Registry(tmp_path, wrong).open("tiny", "1")  # noqa: E731
    for refused in (opened, lambda: wrong.signature(b"")):
        with pytest.raises(KeyFileError, match="key file") as told:
            refused()
        assert "sesame" not in str(told.value)
        assert "PRIVATE" not in str(told.value)


def test_a_version_that_could_not_be_signed_is_not_even_trained(ours: Keys) -> None:
    with pytest.raises(HoldfastError, match="HOLDFAST_SIGNING_KEY_FILE"):
        Keys(trusted=ours.trusted).require_signing()
    for keys in (Keys(), ours, Keys(signing=ours.signing)):
        keys.require_signing()


def test_without_the_package_it_is_told_what_to_install(
    ours: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(Registry(tmp_path))
    monkeypatch.setitem(sys.modules, "models.versions.ed25519", None)
    monkeypatch.delattr(models.versions, "ed25519", raising=False)
    opened = lambda: Registry(tmp_path, ours).open("tiny", "1")  # noqa: E731
    for refused in (opened, lambda: ours.signature(b"")):
        with pytest.raises(HoldfastError, match="pip install"):
            refused()


def test_the_graph_is_still_checked_against_its_digest(tmp_path: Path, ours: Keys) -> None:
    publish(Registry(tmp_path, ours))
    (tmp_path / "tiny" / "1" / MODEL).write_bytes(b"another graph")
    with pytest.raises(BundleError, match="sha256 of model"):
        Registry(tmp_path, ours).open("tiny", "1")
