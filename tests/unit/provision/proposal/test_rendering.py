"""A proposal as text: always a valid config.yml."""

import hypothesis.strategies as st
from hypothesis import given

from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.entries import ModelEntry, NodeEntry
from comfyworker.provision.proposal import (
    Proposal,
    ProposedModel,
    ProposedPack,
    Source,
    propose_config,
    render_proposal,
)
from comfyworker.workflow.metadata import ListedModel, ListedPack

DIGEST = "ab" * 32
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["a: b", "x # y", "- z", "\n", "../x", "'", '"', "true", "12", "1e3", "~", "{", "wan/x.sft", "\x85"]
    ),
)


WHOLE = (
    "# What a.json needs; made by `comfyworker workflow config`.\n"
    "# To fill in by hand: 1 model; each is a comment.\n"
    "# To fill in by hand: 1 custom node; each is a comment.\n"
    "# Not looked up: sizes\n"
    "models:\n"
    "  # wanted by node 12 (LoraLoader)\n"
    "  - url: https://huggingface.co/a/b/resolve/main/x.safetensors\n"
    "    destination: loras/wan\n"
    f"    sha256: {DIGEST}\n"
    "    size: 1500000000  # 1.50 GB\n"
    "  #   or url: https://example.org/x\n"
    "  # wanted by node 3 (SAMLoader)\n"
    "  # - url: ???\n"
    "  #   destination: sams\n"
    "  #   filename: y.pt\n"
    "nodes:\n"
    "  # brings A, B; known by the workflow's metadata\n"
    "  - name: some-pack\n"
    '    version: "1.0"\n'
    "  # brings C\n"
    "  # - url: ???\n"
    "  #   perhaps https://github.com/a/b\n"
    "  #   perhaps https://github.com/c/d\n"
    "# comfyui:  # the newest that its nodes were saved with\n"
    "#   version: v0.3.75\n"
)


def test_the_whole_text() -> None:
    """What is whole stands as it is; what is not is a comment that needs its ??? replaced and its `# ` removed."""
    proposal = Proposal(
        models=(
            ProposedModel(
                filename="x.safetensors",
                destination="loras/wan",
                url="https://huggingface.co/a/b/resolve/main/x.safetensors",
                sha256=DIGEST,
                size_bytes=1_500_000_000,
                wanted_by=("node 12 (LoraLoader)",),
                other_urls=("https://example.org/x",),
            ),
            ProposedModel(filename="y.pt", destination="sams", wanted_by=("node 3 (SAMLoader)",)),
        ),
        packs=(
            ProposedPack(classes=("A", "B"), name="some-pack", version="1.0", known_by="the workflow's metadata"),
            ProposedPack(classes=("C",), candidates=("https://github.com/a/b", "https://github.com/c/d")),
        ),
        comfyui_version="v0.3.75",
        not_looked_up=("sizes",),
    )
    text = render_proposal(proposal, made_from=["a.json"])
    assert text == WHOLE
    config = parse_config(text)
    assert [model.model_copy(update={"line": None}) for model in config.models] == [
        ModelEntry(
            url="https://huggingface.co/a/b/resolve/main/x.safetensors",
            destination="loras/wan",
            sha256=DIGEST,
            size_bytes=1_500_000_000,
        )
    ]
    assert [node.model_copy(update={"line": None}) for node in config.nodes] == [
        NodeEntry(name="some-pack", version="1.0")
    ]


def test_a_comment_becomes_an_entry() -> None:
    """Whoever fills in ??? and takes the mark away has a valid entry."""
    model = ProposedModel(filename="y.pt", destination="sams")
    text = render_proposal(Proposal(models=(model,))).replace("???", "https://example.com/1").replace("# ", "")
    (entry,) = parse_config(text).models
    assert (entry.url, entry.destination, entry.filename) == ("https://example.com/1", "sams", "y.pt")


@given(
    names=st.lists(TEXTS, max_size=4),
    folder=st.one_of(st.none(), TEXTS, st.sampled_from(["loras", "vae", "lora"])),
    url=st.one_of(st.none(), TEXTS, TEXTS.map(lambda text: f"https://example.com/{text}")),
    class_type=TEXTS,
    version=st.one_of(st.none(), TEXTS),
)
def test_whatever_a_workflow_holds(
    names: list[str], folder: str | None, url: str | None, class_type: str, version: str | None
) -> None:
    """The text is a valid config.yml that says nothing else than the proposal."""
    graph = {
        str(index): {"class_type": "LoraLoader", "inputs": {"lora_name": f"{name}.safetensors"}}
        for index, name in enumerate(names)
    }
    graph[class_type] = {"class_type": class_type, "inputs": {}}
    listed = tuple(ListedModel(f"{name}.safetensors", folder, url, "0") for name in names)
    proposal = propose_config(
        Source(graph, listed_models=listed, listed_packs=(ListedPack(class_type, "pack", None, version),))
    )
    config = parse_config(render_proposal(proposal, made_from=[class_type]))
    whole = [model for model in proposal.models if model.is_whole]
    assert [(entry.url, entry.destination) for entry in config.models] == [
        (model.url, model.destination) for model in whole
    ]
    assert len(config.nodes) == sum(pack.is_whole for pack in proposal.packs)
