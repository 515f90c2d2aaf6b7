"""Laws of `holdfast wrap`: from somebody's file and data to a version that answers with scores."""

import csv
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from sklearn.ensemble import RandomForestClassifier

from models.versions.facts import WrappingFacts
from models.versions.registry import Registry
from models.versions.runner import Runner, session
from models.versions.schema import Manifest
from service.cli import CONTEXT, CommandGroup
from service.cli.wrap import wrap
from service.configuration.settings import Settings
from tests import exports
from tests.printed import data_of

ROWS = 450


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


def invoke(settings: Settings, *args: object) -> Result:
    group = CommandGroup("holdfast", commands={"wrap": wrap}, context_settings=CONTEXT)
    return CliRunner().invoke(group, ["wrap", *map(str, args)], obj=settings)


@pytest.fixture
def people(tmp_path: Path) -> tuple[Path, Path]:
    """A pipeline with texts as an ONNX file, and its data as a CSV."""
    model, table = tmp_path / "My People.onnx", tmp_path / "people.csv"
    onnx.save(exports.pipeline_of_columns(), model)
    data = exports.people()
    rows = data.train.joined(data.calibration)
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["age", "net income", "city", "size", "left"])
        for x, y in zip(rows.x[:ROWS], rows.y, strict=False):
            texts = [exports.CITIES[int(x[2])], exports.SIZES[int(x[3])], data.classes[y]]
            writer.writerow([f"{x[0]:.6g}", f"{x[1]:.6g}", *texts])
    return model, table


def test_a_pipeline_on_a_csv_becomes_a_version_that_answers(
    settings: Settings, people: tuple[Path, Path]
) -> None:
    model, table = people
    args = (model, "--data", table, "--label", "left", "--categorical", "size", "--eps", 0.1)
    done = invoke(settings, *args, "--json")
    assert done.exit_code == 0, done.output
    told = data_of(done.stdout)
    assert (told["model"], told["version"]) == ("my_people", 1)
    assert told["adapted"]["layout"] == "4 inputs"
    assert told["adapted"]["file"] == "My People.onnx"
    registry = Registry(settings.registry_dir)
    assert registry.aliases("my_people").champion == 1
    bundle = registry.open("my_people", "champion")
    assert bundle.manifest.training.wrapped == msgspec.convert(told["adapted"], WrappingFacts)
    assert bundle.manifest.evaluation.threat.eps == 0.1
    assert "weights.safetensors" not in bundle.manifest.files
    check_answers(Runner(bundle), bundle.manifest, model)


def check_answers(runner: Runner, manifest: Manifest, model: Path) -> None:
    """The served graph says what the file says, and scores."""
    x = exports.people().test.x[:50]
    answer = runner.run(x)
    given: dict[str, Any] = {
        "age": x[:, :1],
        "net_income": x[:, 1:2],
        "city": np.array(manifest.input.columns[2].categories, object)[x[:, 2:3].astype(int)],
        "size": np.array(manifest.input.columns[3].categories, object)[x[:, 3:4].astype(int)],
    }
    maps = session(model.read_bytes()).run(["output_probability"], given)[0]
    expected = np.array([[row[0], row[1]] for row in maps])
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-4)
    for scores in (answer.drift_p_value, answer.perturbation_likelihood):
        assert ((scores >= 0) & (scores <= 1)).all()
    assert answer.cells.shape == (50, len(manifest.channels))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "forest"])
def test_models_of_images_are_wrapped_told_and_not_promoted_over_a_champion(
    kind: str, settings: Settings, tmp_path: Path
) -> None:
    file, data = exports.KERAS, exports.digits()
    if kind == "forest":
        file = tmp_path / "forest.onnx"
        forest = RandomForestClassifier(30, random_state=0)
        onnx.save(exports.from_sklearn(forest, exports.flat(data), data.train.y), file)
    for version in (1, 2):
        done = invoke(settings, file, "--data", "digits", "--model", kind)
        assert done.exit_code == 0, done.output
        assert f"{kind}/{version}: clean accuracy 9" in done.stdout
    registry = Registry(settings.registry_dir)
    assert registry.aliases(kind).champion == 1
    answer = Runner(registry.open(kind, "2")).run(data.test.x)
    assert (answer.probabilities.argmax(axis=1) == data.test.y).mean() > 0.9
    assert ("it has no feature layer" in done.stdout) == (kind == "forest")


def test_faults_of_the_model_and_of_the_data_are_said_at_once(settings: Settings) -> None:
    done = invoke(settings, "nowhere.onnx", "--data", "nowhere_either")
    assert done.exit_code == 1
    assert "cannot read nowhere.onnx" in done.stderr
    assert "no such file or folder: 'nowhere_either'" in done.stderr


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "no ONNX": ((Path(__file__), "--data", "digits", "--model", "m"), "is not an ONNX file"),
    "no file": (("nowhere.onnx", "--data", "digits"), "cannot read nowhere.onnx"),
    "no name": (("____.onnx", "--data", "digits"), "add --model NAME"),
    "no data": ((exports.KERAS, "--data", "nowhere"), "no such file or folder: 'nowhere'"),
    "eps": ((exports.KERAS, "--data", "digits", "--eps", 8), "was 8/255 = 0.0314 meant?"),
    "other data": ((exports.KERAS, "--data", "wine"), "the data are rows of 13 columns"),
    "scale": ((exports.KERAS, "--data", "digits", "--scale", "big"), "scale 'big': expected auto"),
    "tensor": ((exports.KERAS, "--data", "digits", "--features", "fc"), "no tensor 'fc'"),
    "classes": ((exports.KERAS, "--data", "digits", "--classes", "a,b"), "--classes: expected 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_wrapped_is_one_sentence_and_leaves_no_version(
    case: str, settings: Settings
) -> None:
    args, message = REFUSED[case]
    done = invoke(settings, *args)
    assert done.exit_code == 1
    *progress, sentence = done.stderr.strip().splitlines()
    assert sentence.startswith("holdfast: ")
    assert message in sentence
    assert not [line for line in progress if message in line or "Traceback" in line]
    assert not list(settings.registry_dir.rglob("*.onnx"))


@pytest.mark.parametrize(
    "args", [(), (exports.KERAS,), (exports.KERAS, "--data", "digits", "--norm", "l7")]
)
def test_wrong_usage_ends_with_status_two(args: tuple[object, ...], settings: Settings) -> None:
    assert invoke(settings, *args).exit_code == 2


def test_help_shows_an_example(settings: Settings) -> None:
    text = invoke(settings, "--help").output
    assert "holdfast wrap resnet.onnx --data photos/" in text
    assert "--scale" in text
