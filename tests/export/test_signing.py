import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.errors import ConfigError, MissingExtra, RunError
from flywheel.export.verification import verify_bundle

Keys = tuple[Path, Path]


@pytest.fixture
def signing():
    pytest.importorskip("model_signing", reason='pip install -e ".[sign]" brings it')
    from flywheel.export import signing

    return signing


def test_a_signature_holds_for_its_key_and_its_files(signing, folder: Path, keys: Keys) -> None:
    assert signing.sign(folder, keys[0]) == folder / "model.sig"
    assert verify_bundle(folder).signature == "not checked"
    check = verify_bundle(folder, keys[1])
    assert (check.problems, check.signature) == ((), "valid")
    moved = shutil.move(folder, folder.parent / "moved")
    assert verify_bundle(Path(moved), keys[1]).signature == "valid"


def test_others_check_it_without_flywheel(signing, folder: Path, keys: Keys) -> None:
    signing.sign(folder, keys[0])
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / "model.sig"), "--public_key", str(keys[1])]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_every_changed_file_is_named_though_the_manifest_was_rewritten(
    signing, folder: Path, keys: Keys
) -> None:
    from test_bundle import rewritten

    signing.sign(folder, keys[0])
    (folder / "README.md").write_text("lies")
    (folder / "added, 'quoted'.txt").write_text("")
    (folder / "config.json").unlink()
    rewritten(folder)
    assert verify_bundle(folder).problems == (), "without the key nothing shows"
    check = verify_bundle(folder, keys[1])
    assert check.signature == "invalid"
    assert {"README.md", "config.json", "manifest.json"} <= {name for name, _ in check.problems}
    assert any("added" in name for name, _ in check.problems)


def test_a_file_hidden_where_git_keeps_its_own_is_found(signing, folder: Path, keys: Keys) -> None:
    signing.sign(folder, keys[0])
    (folder / ".git").mkdir()
    (folder / ".git" / "hook").write_text("")
    assert dict(verify_bundle(folder, keys[1]).problems).keys() == {".git/hook"}


def test_a_flipped_bit_of_the_signature_is_found(signing, folder: Path, keys: Keys) -> None:
    signature = signing.sign(folder, keys[0])
    whole = signature.read_bytes()
    for place in range(0, len(whole), len(whole) // 12):
        broken = bytearray(whole)
        broken[place] ^= 1
        signature.write_bytes(broken)
        check = verify_bundle(folder, keys[1])
        assert check.signature == "invalid", place
        assert check.problems


def test_no_signature_and_another_key(signing, folder: Path, keys: Keys, tmp_path: Path) -> None:
    assert dict(verify_bundle(folder, keys[1]).problems) == {
        "model.sig": "it is missing: the bundle was not signed"
    }
    words = "ecparam -name secp384r1 -genkey -noout -out other.pem"
    subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    signing.sign(folder, tmp_path / "other.pem")
    assert "not a signature of this key" in dict(verify_bundle(folder, keys[1]).problems)["model.sig"]


def test_a_bad_key_is_told_with_how_to_make_one(signing, folder: Path, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    for key in (tmp_path / "absent", tmp_path / "text", keys[1]):
        with pytest.raises(ConfigError, match="openssl ecparam"):
            signing.sign(folder, key)
    signing.sign(folder, keys[0])
    with pytest.raises(ConfigError, match="public half"):
        verify_bundle(folder, keys[0])


def test_only_a_whole_bundle_is_signed(signing, folder: Path, keys: Keys) -> None:
    (folder / "README.md").write_text("lies")
    with pytest.raises(RunError, match=r"README\.md"):
        signing.sign(folder, keys[0])
    assert not (folder / "model.sig").exists()


def test_without_the_library_the_extra_is_named(
    folder: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.export.signing import sign

    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(MissingExtra, match=r"flywheel\[sign\]"):
        sign(folder, keys[0])
