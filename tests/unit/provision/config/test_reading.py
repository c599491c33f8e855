"""config.yml read: what it may hold, and how each mistake is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import InvalidConfig
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.entries import Config, ModelEntry, NodeEntry

_SEED_002 = """\
# Models section
models:
  - url: https://huggingface.co/stabilityai/sdxl-vae/resolve/main/sdxl_vae.safetensors
    destination: vae
    optional: false

# Custom nodes section
nodes:
  - url: https://github.com/ltdrdata/ComfyUI-Manager.git
    version: latest
"""


def problems_of(text: str) -> list[str]:
    """Return what is wrong with a config, each without the file's name."""
    with pytest.raises(InvalidConfig) as caught:
        parse_config(text)
    return [problem.message.removeprefix("config.yml, ") for problem in caught.value.problems]


def test_the_example_of_the_config_yml_worker_is_read() -> None:
    """What its users have goes on to work."""
    assert parse_config(_SEED_002) == Config(
        models=(
            ModelEntry(
                url="https://huggingface.co/stabilityai/sdxl-vae/resolve/main/sdxl_vae.safetensors",
                destination="vae",
                line=3,
            ),
        ),
        nodes=(NodeEntry(url="https://github.com/ltdrdata/ComfyUI-Manager.git", version="latest", line=9),),
    )


def test_every_key_is_read() -> None:
    """All that an entry may say arrives; sizes have units, digests one spelling."""
    config = parse_config(f"""
comfyui: {{version: v0.3.75}}
pip: [diffusers>=0.29.0, "peft>=0.7"]
models:
  - url: s3://models/loras/a.safetensors
    destination: models/Lora/wan
    filename: b.safetensors
    sha256: sha256:{"AB" * 32}
    size: 6.9 GB
    optional: true
nodes:
  - comfyui-kjnodes@1.0.5
  - {{name: rgthree-comfy, version: 1.0, optional: yes}}
  - {{url: "git@github.com:a/b.git", version: 1234567}}
""")
    assert config == Config(
        comfyui_version="v0.3.75",
        pip=("diffusers>=0.29.0", "peft>=0.7"),
        models=(
            ModelEntry(
                url="s3://models/loras/a.safetensors",
                destination="loras/wan",
                filename="b.safetensors",
                sha256="ab" * 32,
                size_bytes=6_900_000_000,
                optional=True,
                line=5,
            ),
        ),
        nodes=(
            NodeEntry(name="comfyui-kjnodes", version="1.0.5", line=12),
            NodeEntry(name="rgthree-comfy", version="1.0", optional=True, line=13),
            NodeEntry(url="git@github.com:a/b.git", version="1234567", line=14),
        ),
    )


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "models:\nnodes:\n", "models: []\n"])
def test_a_config_may_ask_for_nothing(text: str) -> None:
    """Keys that were left empty count as not there."""
    assert parse_config(text) == Config()


def test_all_mistakes_are_told_at_once_with_line_and_key() -> None:
    """Nobody has to run it again to find the next one."""
    assert problems_of(
        """\
model: []
models:
  - url: htps://x/y
    destination: vae
    size: big
  - destination: ../../etc
  - url: https://a/b.safetensors
    destination: chekpoints
    sha256: abc
    optional: maybe
    destinaton: vae
nodes:
  foo: bar
pip: -r x
"""
    ) == [
        "line 1: model is no key that is known here; did you mean 'models'?",
        "line 3: models[0].url is no URL of a kind that is known (https, http, s3, r2, file, hf): 'htps://x/y'",
        "line 5: models[0].size must be a number of bytes, as 6938041050, or '6.9 GB'",
        "line 6: models[1] has no `url`",
        "line 11: models[2].destinaton is no key that is known here; did you mean 'destination'?",
        "line 8: models[2].destination 'chekpoints' is no folder of ComfyUI; did you mean 'checkpoints'?",
        "line 9: models[2].sha256 must be the 64 hexadecimal digits of a SHA-256",
        "line 10: models[2].optional must be true or false, and is text",
        "line 13: nodes must be a list, and is a mapping",
        "line 14: pip must be a list, and is text",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "line 1: the file must be a mapping, and is a list"),
        ("a: 1\na: 2", "line 2: it has the key 'a' twice, first in line 1"),
        ("models: [", "line 2, column 1: it is no YAML: did not find expected node content"),
        ("\tmodels: x", "line 1, column 1: it is no YAML: found character that cannot start any token"),
        ("models: !!python/object:os.system x", "line 1: it holds a value that YAML cannot read"),
        ("x: &a [*a]", "line 1: it has more values than any config has"),
        ("? [1]\n: 2", "line 1: it has a key that is no text"),
        (
            "models:\n  - url: x.safetensors\n    destination: vae",
            "line 2: models[0].url must be a URL, and is 'x.safetensors'; a file's path begins with / or ./",
        ),
        (
            "models:\n  - {url: https://a/b, destination: /etc}",
            (
                "line 2: models[0].destination is not a folder below ComfyUI's models folder, "
                "as `checkpoints` or `loras/wan`"
            ),
        ),
        (
            "models:\n  - {url: https://a/b, destination: vae/../..}",
            "line 2: models[0].destination leads out of ComfyUI's models folder",
        ),
        (
            "models:\n  - {url: https://a/b, destination: vae, filename: ../x}",
            "line 2: models[0].filename must be a file's name alone; `destination` says the folder",
        ),
        (
            "nodes:\n  - {version: latest}",
            "line 2: nodes[0] needs `url`, a git repository, or `name`, a name of the Comfy Registry",
        ),
        ("nodes:\n  - {url: https://a/b, version: --upload-pack=x}", "line 2: nodes[0].version is no version"),
        (
            "nodes:\n  - {url: 'ext::sh -c x'}",
            "line 2: nodes[0].url is no URL of a git repository, as https://github.com/…",
        ),
        ("nodes:\n  - {url: --help}", "line 2: nodes[0].url is no URL of a git repository, as https://github.com/…"),
        ("nodes: ['a b']", "line 1: nodes[0] is no name of the Comfy Registry, as `comfyui-kjnodes@1.0.5`"),
    ],
)
def test_a_mistake_is_told(text: str, message: str) -> None:
    """The sentence names the place, what there is, and what it should be."""
    assert problems_of(text) == [message]


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    """Secrets come from the environment; messages end up in logs."""
    (message,) = problems_of("models:\n  - {url: 'https://me:hunter2@a/b.bin', destination: vae}")
    assert "holds a password" in message
    assert "hunter2" not in message


def test_two_entries_for_one_file_are_told() -> None:
    """One would overwrite the other; the same entry twice is harmless."""
    twice = "  - {url: https://a/x.bin, destination: vae}\n"
    assert problems_of(f"models:\n{twice}  - {{url: https://b/x.bin, destination: vae}}") == [
        "line 3: models[1] goes to the same file as line 2, vae/x.bin; `filename` renames one"
    ]
    assert len(parse_config(f"models:\n{twice}{twice}").models) == 2


def test_a_custom_node_in_two_versions_is_told() -> None:
    """Only one of them can be there."""
    assert problems_of("nodes:\n  - {url: https://a/b.git}\n  - {url: https://a/b, version: v1}") == [
        "line 3: nodes[1] is the custom node of line 2 in another version"
    ]


def test_a_file_that_expands_without_end_is_refused() -> None:
    """Aliases of aliases would fill the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert problems_of("\n".join(lines)) == ["line 1: it has more values than any config has"]


def test_a_comfy_build_yaml_is_read() -> None:
    """Its models and custom nodes are ours."""
    config = parse_config(
        f"""
models:
  - {{type: checkpoints, filename: a.safetensors, sha256: "{"0" * 64}", sourceUri: https://a/download/1}}
customNodes:
  - {{id: comfyui-kjnodes, registryVersion: 1.0.5}}
  - {{repository: https://a/b.git, gitRef: main}}
"""
    )
    assert config == Config(
        models=(
            ModelEntry(
                url="https://a/download/1", destination="checkpoints", filename="a.safetensors", sha256="0" * 64, line=3
            ),
        ),
        nodes=(
            NodeEntry(name="comfyui-kjnodes", version="1.0.5", line=5),
            NodeEntry(url="https://a/b.git", version="main", line=6),
        ),
    )


def test_a_snapshot_of_comfyui_manager_is_read() -> None:
    """Enabled nodes come at their commits; what is disabled stays away."""
    config = parse_config(
        """{"comfyui": "abc123", "git_custom_nodes": {
  "https://a/b.git": {"hash": "deadbeef", "disabled": false},
  "https://a/c.git": {"hash": "deadbeef", "disabled": true}},
"cnr_custom_nodes": {"kjnodes": "1.0.5"}, "file_custom_nodes": [], "pips": {"torch==2.0": ""}}"""
    )
    assert config == Config(
        comfyui_version="abc123",
        nodes=(
            NodeEntry(url="https://a/b.git", version="deadbeef", line=2),
            NodeEntry(name="kjnodes", version="1.0.5", line=4),
        ),
    )


@given(st.text())
def test_no_text_gives_anything_but_a_config_or_its_mistakes(text: str) -> None:
    """Whatever stands in CONFIG_YML, the worker says what is wrong with it."""
    try:
        parse_config(text)
    except InvalidConfig as error:
        assert error.problems  # noqa: PT017  # both outcomes are right
