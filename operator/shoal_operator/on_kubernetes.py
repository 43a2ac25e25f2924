"""What of a manifest cannot be done on this cluster, as it was installed: refused by name, each with its reason."""

from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rules import Fault
from shoal_operator import pod_template, sources
from shoal_operator.installation import Installation
from shoal_operator.unbuilt import UNBUILT
from shoal_operator.unbuilt import faults as unbuilt_faults


def refusals(md: ModelDeployment, installation: Installation) -> list[Fault]:
    """Everything; a manifest without any can be rendered."""
    return [
        *unbuilt_faults(md, UNBUILT),
        *sources.faults(md, installation),
        *_code_faults(md, installation),
        *_variable_faults(md),
        *_gang_faults(md),
        *pod_template.faults(md),
    ]


def _code_faults(md: ModelDeployment, installation: Installation) -> list[Fault]:
    """The flag can hide in a JSON value or behind a dot, so any word that names it counts."""
    if installation.allow_remote_code:
        return []
    return [
        Fault(
            f"spec.engine.args[{index}]",
            "code that comes with a model runs only where the installation allows it; remove trust-remote-code or use "
            "a model whose architecture the engine knows",
        )
        for index, word in enumerate(md.spec.engine.args)
        if "trust_remote_code" in word.replace("-", "_")
    ]


def _variable_faults(md: ModelDeployment) -> list[Fault]:
    return [
        Fault(f"spec.engine.env[{index}]", f"Shoal sets {variable.name} itself; remove it")
        for index, variable in enumerate(md.spec.engine.env)
        if variable.name in pod_template.OWN_VARIABLES
    ]


def _gang_faults(md: ModelDeployment) -> list[Fault]:
    if md.spec.resources.gpu == 0 and md.spec.parallelism.pipeline > 1:
        return [
            Fault(
                "spec.parallelism.pipeline",
                "without GPUs the engine runs one stage only; set it to 1 or raise resources.gpu",
            )
        ]
    return []
