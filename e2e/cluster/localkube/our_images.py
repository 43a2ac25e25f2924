"""Which images this project has, what each is built from, and where its archive is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localkube import images
from localkube.layout import Layout

ROOT = Path(__file__).resolve().parents[3]
PROJECT = ("pyproject.toml", "hatch_build.py", "uv.lock", "README.md", "LICENSE")
CODE = (*PROJECT, "crds/", "operator/", "serving/", "images/build-tools.txt")


@dataclass(frozen=True, slots=True)
class OurImage:
    """One Dockerfile with its arguments."""

    name: str
    folder: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def dockerfile(self) -> Path:
        return ROOT / "images" / self.folder / "Dockerfile"


# The base image here has what the CPU engine needs, a compiler apart: `--enforce-eager` needs none, and the gateway is
# not compiled here (`make wheel-test` is what runs it compiled).
ALL = {
    "control": OurImage("localhost/shoal-control:dev", "control", {"BUILD_PACKAGES": "", "SHOAL_COMPILE": "never"}),
    "simulator": OurImage("localhost/shoal-simulator:dev", "simulator"),
    "simulator-ray": OurImage("localhost/shoal-simulator-ray:dev", "simulator-ray"),
    "engine-cpu": OurImage("localhost/shoal-engine-cpu:dev", "engine", {"ENGINE": "cpu", "SYSTEM_PACKAGES": ""}),
}


def inputs(image: OurImage) -> list[Path]:
    """The files of this checkout that the image is made from."""
    wanted = (*CODE, f"images/{image.folder}/")
    return [path for path in images.tracked(ROOT) if str(path.relative_to(ROOT)).startswith(wanted)]


def archive(place: Layout, which: str) -> Path:
    """The OCI archive of one of our images, built when its inputs have changed."""
    image = ALL[which]
    arguments = {"BASE_IMAGE": images.base(place), **image.arguments}
    return images.build_image(place, image.name, image.dockerfile, ROOT, arguments, inputs(image))
