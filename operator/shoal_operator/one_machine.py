"""What of a manifest cannot be done on one machine (refused), and what has no effect there (said in a notice)."""

from shoal_api.modeldeployment import ModelDeployment
from shoal_api.placement import Resources
from shoal_api.rules import Fault
from shoal_operator.unbuilt import UNBUILT, Unbuilt, faults

NOT_ON_ONE_MACHINE = (
    *UNBUILT,
    Unbuilt(
        "spec.model.source",
        lambda md: md.spec.model.source.startswith("pvc://"),
        "a claim exists on a cluster only; on one machine use hf:// or file:///",
    ),
    Unbuilt(
        "spec.model.source",
        lambda md: md.spec.model.source.startswith(("s3://", "oci://")),
        "s3:// and oci:// sources are not served in this version; use hf:// or file:///",
    ),
    Unbuilt(
        "spec.engine.image",
        lambda md: bool(md.spec.engine.image),
        "one machine runs the installed engine environment, not an image; remove the field",
    ),
    Unbuilt(
        "spec.engine.env",
        lambda md: any(variable.value_from is not None for variable in md.spec.engine.env),
        "valueFrom needs a cluster; give a value, or set the variable where you start shoal",
    ),
    Unbuilt(
        "spec.parallelism",
        lambda md: 0 < md.spec.resources.gpu < md.spec.parallelism.ranks,
        "tensor × pipeline is more than resources.gpu, which asks for a replica over several nodes; "
        "on one machine set resources.gpu to tensor × pipeline",
    ),
)


def refusals(md: ModelDeployment) -> list[Fault]:
    """What this manifest asks for and one machine cannot give."""
    return faults(md, NOT_ON_ONE_MACHINE)


def notices(md: ModelDeployment) -> list[Fault]:
    """What this manifest says that has no effect on one machine."""
    spec, usual = md.spec, Resources()
    said = []
    if "scheduling" in spec.model_fields_set:
        said.append(Fault("spec.scheduling", "has no effect on one machine"))
    if spec.pod_template:
        said.append(Fault("spec.podTemplate", "has no effect on one machine"))
    if spec.model.credentials is not None:
        said.append(Fault("spec.model.credentials", "has no effect on one machine; set HF_TOKEN where you start shoal"))
    for path, field in (("cpu", "cpu"), ("memory", "memory"), ("sharedMemory", "shared_memory")):
        if field in spec.resources.model_fields_set:
            said.append(Fault(f"spec.resources.{path}", "is not enforced on one machine"))
    if spec.resources.gpu_resource != usual.gpu_resource:
        said.append(Fault("spec.resources.gpuResource", "has no effect on one machine"))
    return said
