"""Which model files a workflow names."""

from comfyworker.jobs import Graph
from comfyworker.workflow import model_files


def test_model_files_by_their_endings(graph: Graph) -> None:
    """Texts that end in a model file's extension are told, in any letter case; sentences and pictures are not."""
    graph["1"]["inputs"]["ckpt_name"] = "sub/Model.SAFETENSORS"
    graph["3"]["inputs"]["text"] = "a cat.safetensors, sitting"
    assert model_files(graph) == {"sub/Model.SAFETENSORS", "style_01.safetensors"}
