"""The Dockerfile as tests read it: its stages, their steps, and the environment that they leave to the container."""

import json
import re
import shlex
from dataclasses import dataclass, field

from support.source import REPOSITORY

BASE_PATH = "/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH in NVIDIA's images."""
_VARIABLE = re.compile(r"\$\{?([A-Z_]+)\}?")


@dataclass
class Stage:
    """One stage."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and what stands behind it, continued lines joined."""

    def arguments(self, instruction: str) -> list[str]:
        """Return what stands behind each of these instructions."""
        return [text for name, text in self.steps if name == instruction]


@dataclass
class Dockerfile:
    """All of it."""

    arguments: dict[str, str]
    """The ARGs before the first stage, with their defaults."""
    stages: dict[str, Stage]

    def chain(self, name: str) -> list[Stage]:
        """Return a stage with the stages that it is built on, the lowest first."""
        stage = self.stages[name]
        return [*(self.chain(stage.base) if stage.base in self.stages else []), stage]

    def environ(self, name: str) -> dict[str, str]:
        """Return what ENV says in a stage and in those that it is built on."""
        found = {"PATH": BASE_PATH}
        for stage in self.chain(name):
            for text in stage.arguments("ENV"):
                for word in shlex.split(text):
                    variable, _, value = word.partition("=")
                    found[variable] = _VARIABLE.sub(lambda match: found[match[1]], value)
        return found

    def exec_form(self, name: str, instruction: str) -> list[str]:
        """Return the words of an ENTRYPOINT or CMD."""
        return [str(word) for word in json.loads(self.stages[name].arguments(instruction)[-1])]


def read_dockerfile() -> Dockerfile:
    """Read the repository's Dockerfile."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = Dockerfile(arguments={}, stages={})
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found.stages[name] = Stage(name=name, base=base)
        elif not found.stages:
            name, _, default = rest.partition("=")
            found.arguments[name] = default
        else:
            stage.steps.append((instruction, rest))
    return found


def image_variables() -> set[str]:
    """Return the variables of the build, of the container's entrypoint, of the compose file and of make."""
    found = set(re.findall(r"^ARG ([A-Z_]+)", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    scripts = [REPOSITORY / "docker/entrypoint.sh", REPOSITORY / "docker-compose.yml"]
    found |= {name for path in scripts for name in re.findall(r"\$\{([A-Z_]+)[:}]", path.read_text(encoding="utf-8"))}
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return found | set(re.findall(r"\$\(([A-Z_]+)\)", makefile)) | set(re.findall(r"\$\(if \$\(([A-Z_]+)\)", makefile))
