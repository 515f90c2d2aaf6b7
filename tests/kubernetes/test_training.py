"""deploy/kubernetes/kubeflow: the TrainJob calls what `torchrun` calls, as the image takes it."""

import click
import jsonschema
import pytest
import yaml

from service.cli import main
from service.configuration.settings import load
from tests.kubernetes.resources import CRDS, FOLDER, custom_schemas, program_version

MANIFEST = FOLDER / "kubeflow" / "trainjob.yaml"


def trainjob() -> dict:
    return yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))


def test_it_calls_the_same_entry_as_torchrun_on_a_command_line() -> None:
    torchrun, option, program, *words = trainjob()["spec"]["trainer"]["command"]
    assert (torchrun, option, program) == ("torchrun", "--no-python", "holdfast")
    command = main.commands[words[0]]
    assert isinstance(command, click.Command)
    command.make_context(words[0], words[1:])  # raises where the program does not take it


def test_the_image_and_the_variables_are_this_programs() -> None:
    trainer = trainjob()["spec"]["trainer"]
    assert trainer["image"] == f"holdfast-watch:{program_version()}"
    values = {each["name"]: each["value"] for each in trainer["env"]}
    assert values.pop("OMP_NUM_THREADS") == "1"
    assert str(load(values).state) == "/state"


def test_the_pods_run_with_few_rights_on_a_volume_that_all_nodes_write() -> None:
    (patch,) = trainjob()["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (
        10001,
        True,
    )
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    volumes = {each["name"] for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes
    claims = yaml.safe_load_all((FOLDER / "cluster" / "registry.yaml").read_text(encoding="utf-8"))
    modes = {each["metadata"]["name"]: each["spec"]["accessModes"] for each in claims}
    (claim,) = (
        each["persistentVolumeClaim"]["claimName"]
        for each in pod["volumes"]
        if "persistentVolumeClaim" in each
    )
    assert modes[claim] == ["ReadWriteMany"]


@pytest.mark.skipif(not CRDS.is_dir(), reason="needs the shared schemas of custom resources")
def test_a_field_that_a_trainjob_does_not_have_is_found() -> None:
    job = trainjob()
    schema = custom_schemas()[job["apiVersion"], job["kind"]]
    jsonschema.Draft4Validator(schema).validate(job)
    job["spec"]["trainer"]["numNode"] = 2
    with pytest.raises(jsonschema.ValidationError, match="numNode"):
        jsonschema.Draft4Validator(schema).validate(job)
